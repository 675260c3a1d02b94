//! Turns what a terminal shows, as `tmux capture-pane -e -p` prints it, into a picture in SVG; see
//! docs/picture/make.

use std::io::Read as _;

use anstyle_svg::Term;

fn main() -> std::io::Result<()> {
    let mut screen = String::new();
    std::io::stdin().read_to_string(&mut screen)?;
    // An empty line at the end of the screen would be one at the end of the picture.
    println!("{}", Term::new().render_svg(screen.trim_end()));
    Ok(())
}

//! Files in C, looked through for what they include.

use windrow_formats::includes::scan;

use crate::shared::seeds as seeds_of;

/// What is found has names, each once, and is found again when each stands on a line of its own.
pub fn check(bytes: &[u8]) {
    let found = scan(bytes);
    let mut text = String::new();
    for (index, header) in found.headers.iter().enumerate() {
        assert!(!header.name.is_empty());
        assert!(!found.headers[..index].contains(header));
        if header.name.contains(['\n', '\r', '\\']) {
            continue;
        }
        text += &match header.beside {
            true => format!("#include \"{}\"\n", header.name),
            false if header.name.contains('>') => format!("#include_next \"{}\"\n", header.name),
            false => format!("#include <{}>\n", header.name),
        };
    }
    let again = scan(text.as_bytes());
    let plain = |name: &str| !name.contains(['\n', '\r', '\\']);
    let expected = found.headers.iter().filter(|header| plain(&header.name));
    assert!(again.headers.iter().eq(expected));
    assert!(found.computed.iter().all(|names| !names.is_empty()));
}

/// Directives of all kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "#include \"a.h\"\n# /* x */ include <sys/b.h> // y\n/*\n*/ #inc\\\nlude \"c.h\"\n%:import \"d.h\"\n",
        "#if defined X && __has_include(<a.h>) || __has_include_next(\"b.h\")\n#elif __has_embed(C)\n#endif\n",
        "#define A \"a.h\"\n#define B A\n#define C(x) D(x)\n#define E a/b.h\n#include A\n#include C(B)\n",
        "const char *s = \"/*\";\n#include_next <a.h>\n#embed \"b.png\" limit(3)\n",
    ])
}

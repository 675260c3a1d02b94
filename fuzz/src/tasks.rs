//! Graphs whose tasks need cores and data, ours and Estee's.

use windrow_formats::task_graph::Format;

use crate::shared::seeds as seeds_of;
use crate::wfformat::check_as;

/// What holds for every graph holds for these.
pub fn check(bytes: &[u8]) {
    check_as(Format::Tasks, bytes);
    check_as(Format::Estee, bytes);
}

/// Lists and objects, a list of Estee's and a table.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        r#"{"tasks":[["a",2.5,1,0.1,[1],[0]],["b",1,2,0,[0,1],[]]],"data":[[0.5,0],[3,null]]}"#,
        r#"{"tasks":[{"name":"a","work":2,"cores":[1,4],"alpha":0.5,"memory":"2GB","outputs":["x"]},{"name":"b","times":{"P1":3,"P2":5},"inputs":["x"],"features":["kvm"],"system":"s"},{"work":1,"cores":2,"after":["a",1]}],"data":[{"name":"x","size":"1kB"}]}"#,
        r#"[{"d":1.5,"e_d":null,"cpus":2,"outputs":[{"s":1,"e_s":1},{"s":0.5}],"inputs":[]},{"d":2,"cpus":1,"outputs":[],"inputs":[[0,1]]}]"#,
        r#"{"graph_name":{"0":"x"},"graph_id":{"0":"i"},"graph":{"0":"[{\"d\":1}]"}}"#,
    ])
}

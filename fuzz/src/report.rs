//! Traces and results that become reports, with names in them that are not to break the page.

use windrow_report::page::{Report, html};
use windrow_report::results::{Comparison, Outcome};
use windrow_report::trace;

use crate::shared::seeds as seeds_of;

/// What is read becomes a page with its data in it, which is JSON, and with no element that is not
/// the template's or of a picture.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut report = Report::default();
    if let Ok(run) = trace::read(&text, &text, &mut report.names) {
        report.runs.push(run);
    }
    let rows = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    let rows = rows.map_while(Result::ok);
    let outcomes: Vec<Outcome> = rows
        .filter_map(|row| Outcome::from_json(row, "graph").ok())
        .collect();
    let comparison = Comparison::new(&outcomes);
    report.pictures = comparison.pictures().expect("pictures");
    report.tables.push(comparison.table());
    let page = html(&report).expect("a page");
    let begin = "<script type=\"application/json\" id=\"data\">";
    let (_, data) = page.split_once(begin).expect("the data");
    let (data, _) = data.split_once("</script>").expect("its end");
    serde_json::from_str::<serde_json::Value>(data).expect("data that is JSON");
    assert_eq!(page.matches("<script").count(), 2);
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "[\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"name\":\"slot 0\"}},\n{\"name\":\"</script><script>\",\"ph\":\"X\",\"ts\":1,\"dur\":5,\"pid\":1,\"tid\":0,\"cname\":\"good\",\"args\":{\"cpu\":3,\"peakMemory\":4}}\n]\n",
        "{\"policy\":\"<script>\",\"jobs\":2,\"unit\":\"us\",\"makespan\":5,\"ratio\":1.5}\n{\"policy\":\"b\",\"jobs\":4,\"makespan\":7}\n",
    ])
}

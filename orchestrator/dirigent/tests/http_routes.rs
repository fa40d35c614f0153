//! The page on the HTTP API lists exactly the routes that the components serve.

use std::{collections::BTreeSet, fs};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http.md");

/// Methods and paths in the tables of a section: the rows that begin with a method. Invocations have any method and path,
/// and no row of this form.
fn documented(page: &str, section: &str) -> BTreeSet<(String, String)> {
    let found = page.split("\n## ").find(|part| part.lines().next() == Some(section));
    let section = found.expect("the page has a section for each component");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let routes = rows.filter_map(|(method, rest)| Some((method, rest.split_once('`')?.0)));
    let is_method = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase());
    let routes = routes.filter(|(method, _)| is_method(method));
    routes.map(|(method, path)| (method.to_owned(), path.to_owned())).collect()
}

#[test]
fn every_route_is_documented_and_every_documented_route_exists() {
    let page = fs::read_to_string(PAGE).unwrap();
    let components = [
        ("Control plane", control_plane::http_routes()),
        ("Data plane", data_plane::http_routes()),
        ("Worker", worker::http_routes()),
    ];
    for (section, routes) in components {
        let served: BTreeSet<_> =
            routes.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
        let documented = documented(&page, section);
        let missing: Vec<_> = served.difference(&documented).collect();
        assert!(missing.is_empty(), "{section}: served, but not in {PAGE}: {missing:?}");
        let extra: Vec<_> = documented.difference(&served).collect();
        assert!(extra.is_empty(), "{section}: in {PAGE}, but not served: {extra:?}");
    }
}

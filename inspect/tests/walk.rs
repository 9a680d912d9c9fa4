//! Paths, depth, sensitivity and merging, against a slow model of the tree.

use inspect::{
    Directory, Inspect, MAX_DEPTH, Node, Path, PathError, Query, Request, Sensitivity, Value,
};
use proptest::prelude::*;

/// An object whose children may share names.
#[derive(Clone, Debug)]
enum Object {
    Silent,
    Value(u64),
    Directory(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    name: String,
    level: Sensitivity,
    flatten: bool,
    object: Object,
}

impl Inspect for Object {
    fn inspect(&self, req: Request<'_>) {
        match self {
            Self::Silent => {}
            Self::Value(number) => req.value(*number),
            Self::Directory(children) => {
                let mut response = req.respond();
                for child in children {
                    if child.flatten {
                        response.flatten_at(child.level, child.name.clone(), &child.object);
                    } else {
                        response.field_at(child.level, child.name.clone(), &child.object);
                    }
                }
            }
        }
    }
}

/// The model: contributors are applied one after the other to a tree of vectors.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Value(u64),
    Directory(Vec<(String, Model)>),
}

fn add(place: &mut Option<Model>, object: &Object, sensitivity: Sensitivity) {
    match object {
        Object::Silent => {}
        Object::Value(number) => {
            place.get_or_insert(Model::Value(*number));
        }
        Object::Directory(children) => {
            let place = place.get_or_insert_with(|| Model::Directory(Vec::new()));
            if let Model::Directory(entries) = place {
                add_children(entries, children, sensitivity);
            }
        }
    }
}

fn add_children(entries: &mut Vec<(String, Model)>, children: &[Child], sensitivity: Sensitivity) {
    for child in children.iter().filter(|child| child.level <= sensitivity) {
        if let (true, Object::Directory(inner)) = (child.flatten, &child.object) {
            add_children(entries, inner, sensitivity);
            continue;
        }
        let known = entries.iter_mut().position(|(name, _)| *name == child.name);
        let mut place = known.map(|index| entries[index].1.clone());
        add(&mut place, &child.object, sensitivity);
        match (known, place) {
            (Some(index), Some(place)) => entries[index].1 = place,
            (None, Some(place)) => entries.push((child.name.clone(), place)),
            (_, None) => {}
        }
    }
}

fn model(object: &Object, sensitivity: Sensitivity) -> Option<Model> {
    let mut place = None;
    add(&mut place, object, sensitivity);
    place
}

/// Makes a node of a model, opened down to `depth`.
fn node(model: &Model, depth: usize) -> Node {
    match model {
        Model::Value(number) => Node::Value(Value::from(*number)),
        Model::Directory(_) if depth == 0 => Node::Unopened,
        Model::Directory(entries) => Node::Directory(
            entries
                .iter()
                .map(|(name, model)| (name.clone(), node(model, depth - 1)))
                .collect(),
        ),
    }
}

/// Makes an object that answers with what the model holds.
fn answer(model: &Model) -> Object {
    match model {
        Model::Value(number) => Object::Value(*number),
        Model::Directory(entries) => Object::Directory(
            entries
                .iter()
                .map(|(name, model)| Child {
                    name: name.clone(),
                    level: Sensitivity::Safe,
                    flatten: false,
                    object: answer(model),
                })
                .collect(),
        ),
    }
}

fn follow<'a>(model: &'a Model, names: &[String]) -> Option<&'a Model> {
    names.iter().try_fold(model, |model, next| match model {
        Model::Value(_) => None,
        Model::Directory(entries) => entries
            .iter()
            .find(|(name, _)| name == next)
            .map(|(_, model)| model),
    })
}

fn level() -> impl Strategy<Value = Sensitivity> {
    prop_oneof![
        Just(Sensitivity::Safe),
        Just(Sensitivity::Default),
        Just(Sensitivity::Sensitive),
    ]
}

/// So few names that most paths lead somewhere, and that most children share their name.
fn crowded_name() -> impl Strategy<Value = String> {
    prop_oneof![8 => Just("a"), 1 => Just("b")].prop_map(String::from)
}

/// Hostile names, of which some meet.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("a1"),
        Just("a01"),
        Just("a10"),
        Just(""),
        Just("/"),
        Just("\\"),
        Just("\\e"),
        Just("a/b\\"),
        Just("0x1f"),
        Just("..."),
        Just("é\u{202e}\n"),
    ]
    .prop_map(String::from)
}

fn object() -> impl Strategy<Value = Object> {
    object_of(name)
}

fn object_of<S>(name: fn() -> S) -> impl Strategy<Value = Object>
where
    S: Strategy<Value = String> + 'static,
{
    let leaf = prop_oneof![
        1 => Just(Object::Silent),
        4 => any::<u64>().prop_map(Object::Value),
        1 => Just(Object::Directory(Vec::new())),
    ];
    leaf.prop_recursive(4, 60, 6, move |inner| {
        let child = (name(), level(), proptest::bool::weighted(0.2), inner).prop_map(
            |(name, level, flatten, object)| Child {
                name,
                level,
                flatten,
                object,
            },
        );
        proptest::collection::vec(child, 0..6).prop_map(Object::Directory)
    })
}

proptest! {
    #[test]
    fn every_query_equals_the_model(
        object in object_of(crowded_name),
        names in proptest::collection::vec(crowded_name(), 0..4),
        depth in 0_usize..5,
        sensitivity in level(),
    ) {
        let whole = model(&object, sensitivity);
        let expected = whole.as_ref().and_then(|model| follow(model, &names));
        let path = Path::from_names(names.clone()).unwrap();
        let query = Query::new().path(path).depth(depth).sensitivity(sensitivity);
        match (expected, query.run(&object)) {
            (Some(expected), Ok(found)) => prop_assert_eq!(found, node(expected, depth)),
            (None, Ok(found)) => {
                prop_assert!(names.is_empty(), "found {found:?}, which the model has not");
                prop_assert_eq!(found, Node::Value(Value::Null));
            }
            (None, Err(error)) => {
                let found = &names[..error.found()];
                if let Some(whole) = &whole {
                    let reached = follow(whole, found);
                    prop_assert!(reached.is_some(), "{found:?} was said to exist");
                    prop_assert_eq!(follow(whole, &names[..=error.found()]), None);
                    let children: Vec<String> = match node(reached.unwrap(), 1) {
                        Node::Directory(children) => {
                            children.iter().map(|(name, _)| name.into()).collect()
                        }
                        _ => Vec::new(),
                    };
                    prop_assert_eq!(error.children(), children);
                }
            }
            (Some(expected), Err(error)) => prop_assert!(false, "{error}, but {expected:?}"),
        }
    }

    #[test]
    fn every_place_has_a_path(object in object()) {
        fn walk(object: &Object, node: &Node, names: &mut Vec<String>) {
            let path = Path::from_names(names.clone()).unwrap();
            let path: Path = path.to_string().parse().unwrap();
            let found = Query::new().path(path).sensitivity(Sensitivity::Sensitive).run(object);
            assert_eq!(&found.unwrap(), node);
            for (name, child) in node.as_directory().into_iter().flat_map(Directory::iter) {
                names.push(name.into());
                walk(object, child, names);
                names.pop();
            }
        }
        let whole = Query::new().sensitivity(Sensitivity::Sensitive).run(&object).unwrap();
        walk(&object, &whole, &mut Vec::new());
    }

    #[test]
    fn snapshots_are_written_as_nodes_are(object in object(), sensitivity in level()) {
        let query = Query::new().sensitivity(sensitivity);
        let snapshot = query.snapshot(&object).unwrap();
        let node = query.run(&object).unwrap();
        prop_assert_eq!(snapshot.to_text(), node.to_string());
        prop_assert_eq!(snapshot.to_string(), node.to_string());
        prop_assert_eq!(snapshot.compact().to_string(), node.compact().to_string());
        #[cfg(feature = "json")]
        prop_assert_eq!(snapshot.to_json_string(), node.to_json_string());
        prop_assert_eq!(snapshot.to_node(), node);
    }

    #[test]
    fn a_tree_shows_again_as_itself(object in object(), depth in 0_usize..4) {
        let node = Query::new().depth(depth).run(&object).unwrap();
        prop_assert_eq!(&inspect::inspect(&node), &node);
    }

    #[test]
    fn directories_merge_when_collected(
        children in proptest::collection::vec((name(), object()), 0..8),
    ) {
        // Collecting finished nodes is the same as answering with them one after the other.
        let models: Vec<(String, Model)> = children
            .iter()
            .filter_map(|(name, object)| Some((name.clone(), model(object, Sensitivity::Sensitive)?)))
            .collect();
        let nodes = models.iter().map(|(name, model)| (name.clone(), node(model, MAX_DEPTH)));
        let nodes: Directory = nodes.collect();
        let object = answer(&Model::Directory(models));
        let all = Query::new().run(&object).unwrap();
        prop_assert_eq!(all, Node::Directory(nodes));
    }

    #[test]
    fn paths_read_back(names in proptest::collection::vec("[ab/\\\\e]{0,4}|\\PC{0,4}", 0..6)) {
        let path = Path::from_names(names.clone()).unwrap();
        prop_assert_eq!(path.names().collect::<Vec<_>>(), names);
        prop_assert_eq!(path.to_string().parse::<Path>().unwrap(), path);
    }

    #[test]
    fn any_text_is_a_path_or_an_error(text in "[ab/\\\\e]{0,12}|\\PC*") {
        if let Ok(path) = text.parse::<Path>() {
            prop_assert_eq!(path.to_string().parse::<Path>().unwrap(), path);
        }
    }
}

#[test]
fn the_first_answer_stands_on_the_way_too() {
    let child = |name: &str, object| Child {
        name: name.into(),
        level: Sensitivity::Safe,
        flatten: false,
        object,
    };
    let value = || child("a", Object::Value(1));
    let directory = |inner| child("a", Object::Directory(inner));
    let find = |children: Vec<Child>| {
        let query = Query::new().path("a/b".parse().unwrap());
        query.run(&Object::Directory(children)).is_ok()
    };
    let b = || vec![child("b", Object::Value(2))];
    assert!(find(vec![directory(b())]));
    assert!(find(vec![directory(b()), value()]));
    assert!(!find(vec![value(), directory(b())]));
    // An empty directory keeps the place free of the value, so that the next one counts.
    assert!(find(vec![directory(Vec::new()), value(), directory(b())]));
    assert!(!find(vec![
        child("c", Object::Value(1)),
        value(),
        directory(b())
    ]));
}

#[test]
fn paths_are_normalised() {
    let names = |text: &str| {
        let path: Path = text.parse().unwrap();
        path.names().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(names(""), [""; 0]);
    assert_eq!(names("///"), [""; 0]);
    assert_eq!(names("/a//b/"), ["a", "b"]);
    assert_eq!(names(r"a\/b/\\/\e"), ["a/b", r"\", ""]);
    assert_eq!(names("."), ["."]);
}

#[test]
fn bad_paths_are_refused() {
    for part in [r"a\", r"\x", r"a\e", r"\ee"] {
        let error = format!("x/{part}").parse::<Path>().unwrap_err();
        assert_eq!(error, PathError::BadEscape { part: part.into() });
    }
    let long = "a/".repeat(MAX_DEPTH);
    assert_eq!(long.parse::<Path>().unwrap().names().len(), MAX_DEPTH);
    assert_eq!(format!("{long}a").parse::<Path>(), Err(PathError::TooLong));
    assert_eq!(
        Path::from_names(vec!["a"; MAX_DEPTH + 1]),
        Err(PathError::TooLong)
    );
    assert_eq!(
        Path::from_names(std::iter::repeat("a")),
        Err(PathError::TooLong)
    );
}

#[test]
fn split_last_takes_the_last_name() {
    let path: Path = "a/b/c".parse().unwrap();
    let (parents, last) = path.split_last().unwrap();
    assert_eq!((parents.to_string().as_str(), last), ("a/b", "c"));
    assert_eq!(Path::ROOT.split_last(), None);
}

#[test]
fn circles_end() {
    struct Circle;
    impl Inspect for Circle {
        fn inspect(&self, req: Request<'_>) {
            req.respond().field("again", self);
        }
    }
    let path = Path::from_names(vec!["again"; MAX_DEPTH]).unwrap();
    let whole = inspect::inspect(&Circle);
    assert_eq!(whole.get(&path), Some(&Node::Unopened));
    // Whoever wants to see more asks with a path.
    let deepest = Query::new()
        .path(path)
        .depth(usize::MAX)
        .run(&Circle)
        .unwrap();
    assert_eq!(deepest, whole);
}

#[test]
fn what_is_not_found_is_explained() {
    let child = |name: &str, object| Child {
        name: name.into(),
        level: Sensitivity::Safe,
        flatten: false,
        object,
    };
    let many = (0..20).map(|index| child(&format!("s{index}"), Object::Value(0)));
    let object = Object::Directory(vec![
        child(
            "regions",
            Object::Directory(vec![child("ram", Object::Value(1))]),
        ),
        child("slots", Object::Directory(many.collect())),
    ]);
    let explain = |path: &str| {
        let query = Query::new().path(path.parse().unwrap());
        query.run(&object).unwrap_err().to_string()
    };
    expect_test::expect!["nothing at `region`: the root has only `regions`, `slots`"]
        .assert_eq(&explain("region"));
    expect_test::expect!["nothing at `regions/rom/0`: `regions` has only `ram`"]
        .assert_eq(&explain("regions/rom/0"));
    expect_test::expect!["nothing at `regions/ram/0`: `regions/ram` has no children"]
        .assert_eq(&explain("regions/ram/0"));
    expect_test::expect!["nothing at `slots/x`: `slots` has only `s0`, `s1`, `s2`, `s3`, `s4`, `s5`, `s6`, `s7`, `s8`, `s9`, `s10`, `s11` and 8 more"]
        .assert_eq(&explain("slots/x"));
}

#[test]
fn nothing_unwanted_is_evaluated() {
    struct Trap;
    impl Inspect for Trap {
        fn inspect(&self, _: Request<'_>) {
            panic!("evaluated although nobody asked for it");
        }
    }
    struct Object;
    impl Inspect for Object {
        fn inspect(&self, req: Request<'_>) {
            req.respond()
                .value("wanted", 1)
                .field("trap", &Trap)
                .field_at(Sensitivity::Sensitive, "secret", &Trap)
                .child("list", |req| req.by_index([Trap, Trap]));
        }
    }
    let wanted = Query::new().path("wanted".parse().unwrap());
    assert_eq!(wanted.run(&Object).unwrap().to_string(), "1");
    assert_eq!(Query::new().depth(0).run(&Object).unwrap(), Node::Unopened);
    let far = Query::new().path("list/7".parse().unwrap());
    assert_eq!(far.depth(1).run(&from_list()).unwrap_err().found(), 1);
    fn from_list() -> impl Inspect {
        inspect::from_fn(|req| {
            req.respond().child("list", |req| req.by_index([1, 2]));
        })
    }
}

#[test]
fn index_must_be_written_as_it_is_shown() {
    let list = vec![1, 2, 3];
    let at = |path: &str| Query::new().path(path.parse().unwrap()).run(&list).is_ok();
    assert!(at("0") && at("2"));
    assert!(!at("3") && !at("00") && !at("+1") && !at("-1") && !at("99999999999999999999"));
}

use super::*;

/// Modules and groups of short words: `a` is required, `a?` optional.
struct Case {
    modules: Modules,
    order: OrderFile,
    runs: BTreeMap<ModuleKey, DetectRun>,
}

fn group(words: &str) -> crate::OrderGroup {
    let one = |word: &str| OrderElement {
        id: word.trim_end_matches('?').to_owned(),
        version: "1".into(),
        optional: word.ends_with('?'),
        exec_env: Vec::new(),
    };
    crate::OrderGroup { group: words.split_whitespace().map(one).collect() }
}

impl Case {
    fn new(order: &[&str]) -> Self {
        let order = OrderFile {
            order: order.iter().map(|words| group(words)).collect(),
            order_extensions: Vec::new(),
        };
        Self { modules: Modules::new(), order, runs: BTreeMap::new() }
    }

    fn module(&mut self, id: &str, text: &str) -> &mut Self {
        let text = format!("api='0.12'\n[buildpack]\nid='{id}'\nversion='1'\n{text}");
        let module = Module::buildpack(text.as_bytes(), &BTreeSet::new()).expect("a module");
        self.modules.insert(module.key(), module);
        self
    }

    /// Adds a module that ends so.
    fn says(&mut self, id: &str, code: i32, plan: &str) -> &mut Self {
        self.module(id, "");
        self.runs.insert(ModuleKey::buildpack(id, "1"), DetectRun { code, plan: plan.into() });
        self
    }

    fn composite(&mut self, id: &str, order: &[&str]) -> &mut Self {
        self.module(id, "");
        let module = self.modules.get_mut(&ModuleKey::buildpack(id, "1")).expect("added");
        module.order = order.iter().map(|words| group(words)).collect();
        self
    }

    fn extension(&mut self, id: &str, code: i32, plan: &str) -> &mut Self {
        let text = format!("api='0.10'\n[extension]\nid='{id}'\nversion='1'\n");
        let module = Module::extension(text.as_bytes(), &BTreeSet::new()).expect("an extension");
        self.runs.insert(module.key(), DetectRun { code, plan: plan.into() });
        self.modules.insert(module.key(), module);
        self
    }

    fn detect(&self) -> Detection {
        self.in_environment("production")
    }

    fn in_environment(&self, execution_environment: &str) -> Detection {
        let base = BaseTarget { os: "linux".into(), arch: "amd64".into(), ..BaseTarget::default() };
        let request = DetectRequest {
            platform: PlatformApi::LATEST,
            order: &self.order,
            system: &System::default(),
            modules: &self.modules,
            base: &base,
            execution_environment,
            limits: TrialLimits::default(),
        };
        detect(&request, &self.runs)
    }

    /// Returns the ids of the chosen group, or the exit code.
    fn chosen(&self) -> Result<String, u8> {
        ids(self.detect())
    }
}

fn ids(detection: Detection) -> Result<String, u8> {
    let Detection::Done { result, .. } = detection else { panic!("asks") };
    let of = |elements: &[GroupElement]| elements.iter().map(|one| one.id.clone()).collect::<String>();
    result
        .map(|detected| of(&detected.group.extensions) + &of(&detected.group.buildpacks))
        .map_err(|error| error.exit().code())
}

const PROVIDES: &str = "[[provides]]\nname='x'\n";
const REQUIRES: &str = "[[requires]]\nname='x'\n";

#[test]
fn the_first_group_that_passes_is_chosen() {
    let mut case = Case::new(&["a b", "b c?", "b"]);
    case.says("a", 100, "").says("b", 0, "").says("c", 100, "");
    assert_eq!(case.chosen(), Ok("b".into()));
    case.says("a", 0, "");
    assert_eq!(case.chosen(), Ok("ab".into()));
}

#[test]
fn exit_codes_follow_the_lifecycle() {
    let of = |order: &[&str], a, b| Case::new(order).says("a", a, "").says("b", b, "").chosen();
    assert_eq!(of(&["a"], 100, 0), Err(20));
    assert_eq!(of(&["a"], 1, 0), Err(21));
    assert_eq!(of(&["a? b"], 1, 0), Ok("b".into()));
    assert_eq!(of(&["a? b"], 1, 100), Err(21));
    assert_eq!(of(&["a?"], 1, 0), Err(20), "a group without a buildpack is no error");
    assert_eq!(of(&["a", "b"], -1, 100), Err(21));
    assert_eq!(Case::new(&["a"]).says("a", 0, "requires = 1").chosen(), Err(21));
    assert_eq!(Case::new(&["a nothing"]).says("a", 0, "").chosen(), Err(1));
    assert_eq!(Case::new(&["c"]).composite("c", &["nothing"]).chosen(), Err(22));
}

#[test]
fn composites_are_taken_apart_depth_first() {
    let mut case = Case::new(&["c z"]);
    case.composite("c", &["a d", "b"]).composite("d", &["e", "f"]);
    for (id, code) in [("a", 0), ("b", 0), ("e", 100), ("f", 0), ("z", 0)] {
        case.says(id, code, "");
    }
    assert_eq!(case.chosen(), Ok("afz".into()));
    case.says("f", 100, "");
    assert_eq!(case.chosen(), Ok("bz".into()));
    case.says("b", 1, "");
    assert_eq!(case.chosen(), Err(21));
    case.order.order[0].group[0].optional = true;
    assert_eq!(case.chosen(), Ok("z".into()));
    case.says("z", 100, "");
    assert_eq!(case.chosen(), Err(20), "without the composite nothing ended with an error");
}

#[test]
fn what_stands_in_the_group_is_passed_over() {
    let mut case = Case::new(&["a c a"]);
    case.composite("c", &["a b"]).says("a", 0, "").says("b", 0, "");
    assert_eq!(case.chosen(), Ok("ab".into()));
}

#[test]
fn extensions_stand_before_all_and_may_be_left_out() {
    let mut case = Case::new(&["a"]);
    case.order.order_extensions = vec![group("e"), group("f")];
    case.says("a", 0, REQUIRES).extension("e", 0, "").extension("f", 0, PROVIDES);
    assert_eq!(case.chosen(), Ok("fa".into()));
    case.extension("f", 0, REQUIRES);
    assert_eq!(case.chosen(), Err(20), "an extension may not require");
    case.says("a", 0, "");
    assert_eq!(case.chosen(), Ok("ea".into()));
    case.extension("e", 0, PROVIDES);
    assert_eq!(case.chosen(), Ok("a".into()));
}

#[test]
fn what_is_not_known_is_asked_group_by_group() {
    let mut case = Case::new(&["a b", "c"]);
    case.module("a", "").module("b", "").module("c", "");
    let keys = |ids: &[&str]| ids.iter().map(|id| ModuleKey::buildpack(*id, "1")).collect::<BTreeSet<_>>();
    assert_eq!(case.detect(), Detection::Ask(keys(&["a", "b"])));
    case.says("a", 100, "").says("b", 0, "");
    assert_eq!(case.detect(), Detection::Ask(keys(&["c"])));
    case.says("c", 0, "");
    assert_eq!(case.chosen(), Ok("c".into()));
}

#[test]
fn other_base_images_and_environments() {
    let mut case = Case::new(&["a b"]);
    case.says("b", 0, "").module("a", "[[targets]]\nos='windows'\n");
    assert_eq!(case.chosen(), Err(21), "decided without asking");
    case.order.order[0].group[0].optional = true;
    assert_eq!(case.chosen(), Ok("b".into()));
    let mut case = Case::new(&["a b"]);
    case.says("b", 0, "").module("a", "exec-env=['test']\n");
    assert_eq!(case.chosen(), Ok("b".into()));
    assert!(matches!(case.in_environment("test"), Detection::Ask(_)));
    let mut case = Case::new(&["a b"]);
    case.says("a", 0, "").says("b", 0, "");
    case.order.order[0].group[1].exec_env = vec!["test".into()];
    assert_eq!(case.chosen(), Ok("a".into()));
    assert_eq!(ids(case.in_environment("test")), Ok("ab".into()));
}

#[test]
fn what_has_no_end_is_refused() {
    let mut case = Case::new(&["c"]);
    case.composite("c", &["d"]).composite("d", &["c"]);
    assert_eq!(case.chosen(), Err(22));
    // Each composite stands for two groups: 2^20 groups.
    let letters: Vec<String> = (0..20).map(|index| format!("c{index}")).collect();
    let mut case = Case::new(&[&(letters.join(" ") + " z")]);
    for id in &letters {
        case.composite(id, &["a", "b"]);
    }
    case.says("a", 0, "").says("b", 0, "").says("z", 100, "");
    let Detection::Done { result, explanation } = case.detect() else { panic!("asks") };
    assert_eq!((result, explanation.groups.len()), (Err(DetectError::TooManyGroups), GROUPS));
    let long = Case::new(&[&"a ".repeat(ELEMENTS + 1)]).says("a", 0, "").chosen();
    assert_eq!(long, Err(22));
}

#[test]
fn the_explanation_is_a_tree() {
    let mut case = Case::new(&["a", "c? b", "d e?"]);
    case.composite("c", &["a"])
        .says("a", 7, "")
        .says("b", 0, PROVIDES)
        .says("d", 0, "")
        .says("e", 0, PROVIDES);
    let Detection::Done { result, explanation } = case.detect() else { panic!("asks") };
    assert!(result.is_ok());
    let want = "group 1: a module that it needs did not pass
  a@1: ended with an error (exit code 7)
group 2, c@1 group 1: a module that it needs did not pass
  a@1: ended with an error (exit code 7)
  b@1: passed
group 2, without c@1: what its modules require and provide does not fit together
  b@1: passed
  trial 1
    b@1 provides `x`, which nobody after it requires
group 3: chosen
  d@1: passed
  e@1 (optional): passed
  trial 1: fits
    left out: e@1 provides `x`, which nobody after it requires
";
    assert_eq!(explanation.to_string(), want);
}

#[test]
fn a_plan_of_another_group_does_not_count() {
    let mut case = Case::new(&["a b", "a b"]);
    case.says("a", 0, PROVIDES).says("b", 0, "");
    case.order.order[1].group[0].exec_env = vec!["test".into()];
    assert_eq!(case.chosen(), Ok("b".into()));
}

#[test]
fn work_is_bounded_over_all_groups() {
    let mut case = Case::new(&["a z"; 40]);
    let or = "[[or]]\n[[or.requires]]\nname='nothing'\n".repeat(1000);
    case.says("a", 0, &("[[requires]]\nname='nothing'\n".to_owned() + &or)).says("z", 0, &or);
    let Detection::Done { result, explanation } = case.detect() else { panic!("asks") };
    assert!(matches!(result, Err(DetectError::TooManyTrials(_))), "{result:?}");
    let kept = |group: &GroupReport| match &group.end {
        GroupEnd::Plans { trials, .. } => trials.len(),
        _ => 0,
    };
    assert!(explanation.groups.iter().map(kept).sum::<usize>() <= TRIALS);
}

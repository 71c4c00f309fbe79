//! Devices of a step: asked for before anything is looked up, and in no key but by their names.

use rb_api::{AllowedDevices, SolveError};
use rb_diag::ErrorKind;
use rb_llb::{CdiDevice, ExecOp, State};

use super::{Kit, step};

fn describe(kit: &Kit, env: &str) {
    let text = format!(
        r#"{{"cdiVersion": "0.6.0", "kind": "v.example/c", "devices": [
            {{"name": "x", "containerEdits": {{"env": ["{env}"], "deviceNodes": [{{"path": "/dev/x", "hostPath": "/dev/null"}}]}}}}
        ]}}"#
    );
    std::fs::create_dir_all(kit.dir.join("cdi")).expect("makes a folder");
    std::fs::write(kit.dir.join("cdi/c.json"), text).expect("writes");
}

fn kit() -> Option<Kit> {
    let mut kit = Kit::new()?;
    describe(&kit, "X=1");
    kit.steps.device_folders = vec![kit.dir.join("cdi")];
    Some(kit)
}

fn with(script: &str, devices: &[(&str, bool)]) -> State {
    let device =
        |(name, optional): &(&str, bool)| CdiDevice { name: (*name).to_owned(), optional: *optional };
    let cdi_devices = devices.iter().map(device).collect();
    step(script, vec![], ExecOp { cdi_devices, ..ExecOp::default() }).0
}

#[test]
fn a_device_is_refused_unless_allowed_even_if_the_result_is_there() {
    let Some(mut kit) = kit() else { return };
    let state =
        with("echo x > /dev/x; echo $X > /out/said", &[("v.example/c=x", false), ("v.example/c", true)]);
    for round in 0..2 {
        kit.allowed_devices = AllowedDevices { all: false, names: vec!["v.example/c=y".to_owned()] };
        let error = kit.try_solve(std::slice::from_ref(&state)).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Input));
        let SolveError::Vertex { message, help, .. } = error else { panic!() };
        assert!(message.contains("the device `v.example/c=x`"), "{message}");
        assert!(help.is_some_and(|help| help.contains("--allow-device=v.example/c=x")));
        kit.allowed_devices.names.push("v.example/c".to_owned());
        assert_eq!(kit.solve(std::slice::from_ref(&state)), usize::from(round == 0));
        // What the name stands for may change; the key does not.
        describe(&kit, "X=2");
    }
    assert_eq!(kit.said(&state), "1\n");
}

#[test]
fn a_device_that_is_not_here_is_left_out_or_told() {
    let Some(kit) = kit() else { return };
    kit.solve(&[with("test ! -e /dev/x", &[("v.example/none", true)])]);
    let error = kit.try_solve(&[with("true", &[("v.example/none=*", false)])]).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::Environment));
    let SolveError::Vertex { message, help, .. } = error else { panic!() };
    assert!(message.contains("`v.example/none=*`"), "{message}");
    assert!(help.is_some_and(|help| help.contains("`v.example/c=x`")));
}

use super::*;

const ALL: &[Abi] = &[
    Abi { architecture: 0xc000_003e, column: 0, offset: 0 },
    Abi { architecture: 0xc000_003e, column: 2, offset: X32_BIT },
    Abi { architecture: 0x4000_0003, column: 1, offset: 0 },
];
const ARM: &[Abi] = &[Abi { architecture: 0xc000_00b7, column: 3, offset: 0 }];

/// What the kernel's machine would answer.
fn evaluate(program: &[Instruction], architecture: u32, number: u32, argument: u64) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0;
    loop {
        let now = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { now.jump_true } else { now.jump_false });
        match now.code {
            LOAD => {
                accumulator = match now.value {
                    NUMBER => number,
                    ARCHITECTURE => architecture,
                    ARGUMENT_LOW => argument as u32,
                    ARGUMENT_HIGH => (argument >> 32) as u32,
                    other => panic!("offset {other}"),
                }
            }
            AND => accumulator &= now.value,
            JUMP => at += now.value as usize,
            JUMP_EQUAL => jump(accumulator == now.value),
            JUMP_GREATER_EQUAL => jump(accumulator >= now.value),
            RETURN => return now.value,
            other => panic!("code {other}"),
        }
    }
}

const ALLOWED: u32 = RETURN_ALLOW;
const DENIED: u32 = RETURN_ERRNO | EPERM;
const UNKNOWN: u32 = RETURN_ERRNO | ENOSYS;

#[test]
fn every_number_of_every_abi_gets_its_verdict() {
    for abis in [ALL, ARM] {
        let program = compile(abis, &[]);
        assert!(program.len() < 1500, "{} instructions", program.len());
        for abi in abis {
            let conditional: Vec<i16> = CONDITIONAL.iter().map(|(row, _)| row.1[abi.column]).collect();
            for number in 0..1000u32 {
                let listed =
                    table::ALLOWED.iter().any(|row| i64::from(row.1[abi.column]) == i64::from(number));
                let known = conditional.iter().any(|row| i64::from(*row) == i64::from(number));
                let expected = match (listed, known) {
                    (true, _) => ALLOWED,
                    (false, true) => continue,
                    (false, false) if number <= table::LAST_KNOWN => DENIED,
                    (false, false) => UNKNOWN,
                };
                let answer = evaluate(&program, abi.architecture, number + abi.offset, 0);
                assert_eq!(answer, expected, "{abi:?} {number}");
            }
        }
        assert_eq!(evaluate(&program, 0x1234, 0, 0), UNKNOWN);
    }
}

#[test]
fn conditions_look_at_the_first_argument() {
    let program = compile(ALL, &[]);
    let [x64, x32, i386] = ALL else { panic!() };
    for (abi, clone, personality, socket) in [(x64, 56, 135, 41), (x32, 56, 135, 41), (i386, 120, 136, 359)] {
        let ask = |number: u32, argument| evaluate(&program, abi.architecture, number + abi.offset, argument);
        assert_eq!(ask(clone, 0x11), ALLOWED, "fork");
        assert_eq!(ask(clone, 0x3d_0f00), ALLOWED, "thread");
        for namespace in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            assert_eq!(ask(clone, namespace | 0x11), DENIED, "{namespace:x}");
        }
        assert_eq!(ask(435, 0), UNKNOWN, "clone3");
        for fine in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(ask(personality, fine), ALLOWED, "{fine:x}");
        }
        for not in [1, 7, 9, 0x4_0000, 0xffff_fffe, 0x1_0000_0000] {
            assert_eq!(ask(personality, not), DENIED, "{not:x}");
        }
        for family in 0..60 {
            let refused = [12, 19, 20, 23, 25, 34, 37, 38, 40].contains(&family) || family > 45;
            assert_eq!(ask(socket, family), if refused { DENIED } else { ALLOWED }, "family {family}");
        }
        assert_eq!(ask(socket, 0x1_0000_0002), DENIED, "high bits");
    }
}

#[test]
fn beside_others_a_command_limits_itself_alone() {
    let [wide, narrow] = [&[][..], OF_ITSELF].map(|narrower| compile(ALL, narrower));
    let [x64, x32, i386] = ALL else { panic!() };
    for (abi, number) in [(x64, 302), (x32, 302), (i386, 340)] {
        let ask = |program: &[Instruction], process| {
            evaluate(program, abi.architecture, number + abi.offset, process)
        };
        assert_eq!([ask(&wide, 0), ask(&wide, 1), ask(&narrow, 0)], [ALLOWED; 3]);
        assert_eq!([ask(&narrow, 1), ask(&narrow, 1 << 32)], [DENIED; 2]);
    }
}

#[test]
fn dangerous_calls_are_not_in_the_list() {
    let never = "mount umount2 unshare setns bpf keyctl add_key request_key kexec_load init_module finit_module \
        delete_module reboot swapon pivot_root open_by_handle_at perf_event_open userfaultfd io_uring_setup ioperm iopl \
        move_mount fsopen fsmount open_tree mount_setattr settimeofday quotactl syslog acct vhangup kcmp";
    for name in never.split_whitespace() {
        assert!(!table::ALLOWED.iter().any(|row| row.0 == name), "{name}");
    }
    for pair in table::ALLOWED.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{} stands twice or out of order", pair[1].0);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn numbers_agree_with_this_machine() {
    for (name, number) in
        [("write", 1), ("openat2", 437), ("execveat", 322), ("close_range", 436), ("capset", 126)]
    {
        let row = table::ALLOWED.iter().find(|row| row.0 == name).unwrap();
        assert_eq!(row.1[0], number, "{name}");
    }
}

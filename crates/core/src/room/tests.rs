use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;
const SIZE: u64 = 512 * PAGE;

fn id(number: usize) -> VolumeId {
    VolumeId::parse(&format!("csi-{number}")).expect("an id")
}

fn pod(namespace: usize, number: usize) -> PodRef {
    let text = |text: &str| format!("{text}-{number}");
    PodRef {
        namespace: format!("ns-{namespace}"),
        name: text("pod"),
        uid: text("uid"),
        service_account: text("account"),
    }
}

fn pages(pages: u64) -> Amount {
    Amount { bytes: pages * PAGE, inodes: 10 }
}

/// A file system with that many free pages.
fn space(free: u64) -> Space {
    let plenty = |bytes| Amount { bytes, inodes: 100_000 };
    Space { size: plenty(SIZE), free: plenty(free * PAGE) }
}

fn refused(ledger: &mut Ledger, free: u64, number: usize, need: Amount) -> Bound {
    ledger.promise(space(free), &id(number), Some(&pod(number, number)), need).expect_err("promised").bound
}

#[test]
fn whole_pages_are_counted_and_an_inode_for_every_file_and_link() {
    assert_eq!(Amount::of_files([1, 4096, 4097, 0], PAGE), Amount { bytes: 6 * PAGE, inodes: 13 });
    assert_eq!(Amount::of_files([], PAGE), Amount { bytes: PAGE, inodes: 5 });
}

#[test]
fn the_reserve_is_not_for_new_volumes() {
    // 512 pages, 64 of them reserved, and at most 32 per volume.
    let mut ledger = Ledger::default();
    assert_eq!(refused(&mut ledger, 512, 0, pages(33)), Bound::Volume);
    assert_eq!(refused(&mut ledger, 67, 0, pages(4)), Bound::Node);
    assert_eq!(refused(&mut ledger, 10, 0, pages(1)), Bound::Node);
    let few = Space { free: Amount { bytes: SIZE, inodes: 12_505 }, ..space(512) };
    let refusal = ledger.promise(few, &id(0), None, pages(1)).expect_err("no inodes");
    assert_eq!((refusal.bound, refusal.of, refusal.allowed), (Bound::Node, "inodes", 5));
    assert!(ledger.promise(space(68), &id(0), None, pages(4)).is_ok());
}

#[test]
fn a_promise_is_counted_once() {
    let mut ledger = Ledger::default();
    assert!(ledger.promise(space(68), &id(0), None, pages(3)).is_ok());
    assert!(ledger.promise(space(68), &id(0), None, pages(3)).is_ok(), "it is the same volume");
    assert!(ledger.promise(space(68), &id(1), None, pages(2)).is_err(), "though nothing is written yet");
    ledger.release(&id(0));
    assert!(ledger.promise(space(68), &id(1), None, pages(2)).is_ok());
}

#[test]
fn only_growth_needs_room() {
    let mut ledger = Ledger::default();
    ledger.wrote(&id(0), None, pages(8));
    assert!(ledger.promise(space(0), &id(0), None, pages(8)).is_ok(), "an amount that it already holds");
    assert!(ledger.promise(space(0), &id(0), None, pages(9)).is_err());
    assert!(ledger.promise(space(65), &id(0), None, pages(9)).is_ok());
    assert_eq!(ledger.bytes_of(&id(0)), 8 * PAGE, "until it is written");
}

#[test]
fn a_pod_and_a_namespace_leave_room_for_others() {
    let mut ledger = Ledger::default();
    let mut publish = |namespace, pod_number, free: &mut u64, number| {
        let pod = pod(namespace, pod_number);
        let promised = ledger.promise(space(*free), &id(number), Some(&pod), pages(4));
        promised.map(|()| {
            ledger.wrote(&id(number), Some(&pod), pages(4));
            *free -= 4;
        })
    };
    let mut free = 512;
    let of_pod = (0..).find_map(|number| publish(0, 0, &mut free, number).err().map(|refusal| (number, refusal)));
    let (of_pod, refusal) = of_pod.expect("an end");
    assert_eq!((of_pod, refusal.bound), (22, Bound::Pod), "a fifth of 448 pages");
    let of_namespace = (100..).find_map(|number| publish(0, number, &mut free, number).err().map(|it| (number, it)));
    let (of_namespace, refusal) = of_namespace.expect("an end");
    assert_eq!((of_pod + of_namespace - 100, refusal.bound), (56, Bound::Namespace), "half of them");
    let of_next = (300..).find(|number| publish(1, *number, &mut free, *number).is_err()).expect("an end");
    assert_eq!(of_next - 300, 28, "half of the other half");
}

#[test]
fn a_refusal_says_how_much_and_what_to_do() {
    let refusal = Ledger::default().promise(space(66), &id(0), None, pages(4)).expect_err("refused");
    assert_eq!(
        refusal.to_string(),
        "the volume needs 16384 bytes of the 2097152 bytes for all volumes on the node, but the free space not reserved \
         for renewals is 8192: run fewer volumes on the node, or increase --data-size-limit"
    );
}

proptest! {
    /// Publishes, renewals and ends in any order: each published volume can be renewed at any moment, beside its old
    /// files.
    #[test]
    fn a_published_volume_can_be_renewed(steps in prop::collection::vec((0usize..40, 0usize..6, 1u64..40, 0u8..4), 1..300)) {
        let (mut ledger, mut there) = (Ledger::default(), HashMap::<usize, u64>::new());
        for (number, namespace, need, step) in steps {
            let free = 512 - there.values().sum::<u64>();
            let pod = pod(namespace % 3, number % 7);
            match step {
                0 => {
                    there.remove(&number);
                    ledger.release(&id(number));
                }
                _ => if ledger.promise(space(free), &id(number), Some(&pod), pages(need)).is_ok() {
                    ledger.wrote(&id(number), Some(&pod), pages(need));
                    there.insert(number, need);
                }
            }
            let free = 512 - there.values().sum::<u64>();
            prop_assert!(free >= 64, "the reserve is untouched");
            prop_assert!(there.values().all(|renewed| *renewed <= free));
            prop_assert_eq!(ledger.namespaces.values().sum::<u64>(), there.values().sum::<u64>() * PAGE);
            prop_assert_eq!(ledger.promised, Amount::default());
        }
        there.keys().for_each(|number| ledger.release(&id(*number)));
        prop_assert!(ledger.volumes.is_empty() && ledger.pods.is_empty() && ledger.namespaces.is_empty());
    }
}

#[test]
fn a_pod_that_keeps_replaced_files_open_does_not_get_the_reserve() {
    let amount = |pages: u64, inodes| Amount { bytes: pages * PAGE, inodes };
    let space = |used: Amount| Space { size: amount(512, 4096), free: amount(512, 4096).less(used) };
    let (mut ledger, files) = (Ledger::default(), amount(4, 11));
    let (keeper, honest) = (pod(0, 0), pod(1, 1));
    let mut used = Amount::default();
    let deliver = |ledger: &mut Ledger, used: &mut Amount, number: usize, pod: &PodRef, kept: Amount| {
        let before = space(*used);
        let former = ledger.volumes.contains_key(&id(number));
        *used = used.plus(files).less(if former { files.less(kept) } else { Amount::default() });
        ledger.delivered(&id(number), Some(pod), files, Some([before, space(*used)]));
    };
    for number in [0, 1] {
        deliver(&mut ledger, &mut used, number, if number == 0 { &keeper } else { &honest }, Amount::default());
    }
    let kept = amount(3, 3);
    let mut times = 0;
    while ledger.renew(space(used), Some(&keeper), files).is_ok() {
        deliver(&mut ledger, &mut used, 0, &keeper, kept);
        deliver(&mut ledger, &mut used, 1, &honest, Amount::default());
        times += 1;
    }
    assert!(times > 100, "{times}");
    let refusal = ledger.renew(space(used), Some(&keeper), files).expect_err("it would use the reserve");
    assert_eq!(refusal.bound, Bound::KeptOpen);
    assert!(refusal.to_string().ends_with("close them, or delete the pod"), "{refusal}");
    assert!(space(used).free.bytes > space(used).reserve().bytes - files.bytes, "the reserve is there for others");
    assert_eq!(ledger.renew(space(used), Some(&honest), files), Ok(()));
    assert_eq!(ledger.kept_open(&honest, space(used)), Amount::default());

    used = used.less(amount(300, 300));
    assert_eq!(ledger.renew(space(used), Some(&keeper), files), Ok(()), "once they are closed");
    ledger.release(&id(0));
    assert!(ledger.kept_open.is_empty(), "the pod has gone");
}

#[test]
fn what_a_pod_has_closed_is_forgotten() {
    let amount = |inodes| Amount { bytes: inodes * PAGE, inodes };
    let space = |used: u64| Space { size: amount(4096), free: amount(4096 - used) };
    let (mut ledger, reader) = (Ledger::default(), pod(0, 0));
    ledger.delivered(&id(0), Some(&reader), amount(10), None);
    let kept = |ledger: &mut Ledger, before, after| {
        ledger.delivered(&id(0), Some(&reader), amount(10), Some([space(before), space(after)]));
        ledger.kept_open(&reader, space(after))
    };
    assert_eq!(kept(&mut ledger, 10, 17), amount(7));
    assert_eq!(kept(&mut ledger, 17, 10), Amount::default(), "closed while the next were written");
    for _ in 0..100 {
        assert_eq!(kept(&mut ledger, 10, 20), amount(10), "it reads the former ones for a while");
        assert_eq!(ledger.kept_open(&reader, space(10)), Amount::default(), "closed since");
    }
    ledger.wrote(&id(0), Some(&reader), amount(10));
    assert_eq!(kept(&mut ledger, 10, 40), amount(10), "what was found on the disk was not measured");
}

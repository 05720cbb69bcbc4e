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
    ledger.wrote(&id(0), None, pages(8), false);
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
            ledger.wrote(&id(number), Some(&pod), pages(4), false);
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
                    ledger.wrote(&id(number), Some(&pod), pages(need), false);
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

/// A file system of 512 pages, 64 of them reserved, with volumes whose pods keep replaced files open.
#[derive(Default)]
struct Node {
    ledger: Ledger,
    volumes: HashMap<usize, Amount>,
    /// What pods keep open, by their volumes.
    kept: HashMap<usize, u64>,
    /// The driver's own files.
    own: u64,
}

fn of(pages: u64) -> Amount {
    Amount { bytes: pages * PAGE, inodes: pages }
}

impl Node {
    fn space(&self) -> Space {
        let used = Amount::sum(self.volumes.values()).plus(of(self.kept.values().sum::<u64>() + self.own));
        Space { size: of(512), free: of(512).less(used) }
    }

    /// Writes a volume of its only pod, which keeps so many pages of the former files open.
    fn deliver(&mut self, namespace: usize, number: usize, files: Amount, keeps: u64) -> Result<(), Refusal> {
        let (before, pod) = (self.space(), pod(namespace, number));
        if self.volumes.contains_key(&number) {
            self.ledger.renew(before, Some(&pod), files)?;
            assert!(files.fits(before.free), "the file system is full");
            *self.kept.entry(number).or_default() += keeps;
        }
        self.volumes.insert(number, files);
        self.ledger.delivered(&id(number), Some(&pod), files, [before, self.space()]);
        Ok(())
    }

    /// The files of a volume are removed. Its pod has closed all of them.
    fn remove(&mut self, namespace: usize, number: usize, rest: Option<Amount>) {
        let (before, pod) = (self.space(), pod(namespace, number));
        self.volumes.remove(&number);
        self.volumes.extend(rest.map(|rest| (number, rest)));
        self.ledger.removed(&id(number), Some(&pod), rest, [before, self.space()]);
    }

    /// The driver ends, and finds its volumes again.
    fn restart(&mut self, namespace: usize) {
        self.ledger = Ledger::default();
        for (number, files) in &self.volumes {
            self.ledger.wrote(&id(*number), Some(&pod(namespace, *number)), *files, true);
        }
    }

    fn charged(&self, namespace: usize, number: usize) -> u64 {
        self.ledger.kept_by_pod(&pod(namespace, number)).bytes / PAGE
    }
}

const FILES: u64 = 4;

#[test]
fn a_pod_that_keeps_replaced_files_open_does_not_get_the_reserve() {
    let mut node = Node::default();
    node.deliver(0, 0, of(FILES), 0).unwrap();
    node.deliver(1, 1, of(FILES), 0).unwrap();
    let mut times = 0;
    let refusal = loop {
        node.deliver(1, 1, of(FILES), 0).expect("the other pod keeps nothing");
        if let Err(refusal) = node.deliver(0, 0, of(FILES), FILES) {
            break refusal;
        }
        times += 1;
    };
    assert_eq!((times, refusal.bound), (110, Bound::KeptByPod), "until only the reserve is left");
    assert!(refusal.to_string().ends_with("close them, or delete the pod"), "{refusal}");
    assert_eq!((node.charged(0, 0), node.charged(1, 1)), (FILES * times, 0));

    node.kept.clear();
    node.deliver(0, 0, of(FILES), 0).expect("they are closed");
    assert_eq!(node.charged(0, 0), 0);
    node.deliver(0, 0, of(FILES), FILES).unwrap();
    node.ledger.release(&id(0));
    assert!(node.ledger.kept_open.is_empty(), "the pod has gone");
}

/// The least that a pod may keep is a quarter of this reserve.
#[test]
fn pods_of_one_namespace_cannot_use_up_the_reserve() {
    for restarts in [false, true] {
        let mut node = Node::default();
        let keepers = 0..20;
        keepers.clone().for_each(|number| node.deliver(0, number, of(FILES), 0).unwrap());
        for number in keepers.clone().take(10) {
            while node.deliver(0, number, of(FILES), FILES).is_ok() {}
        }
        assert!(node.space().free.bytes < 64 * PAGE, "only the reserve is left");
        let mut bounds = Vec::new();
        for number in keepers.clone().chain(keepers) {
            while node.deliver(0, number, of(FILES), FILES).is_ok() {}
            bounds.extend(node.deliver(0, number, of(FILES), FILES).err().map(|refusal| refusal.bound));
            if restarts && number == 19 {
                node.restart(0);
            }
        }
        assert!(bounds.contains(&Bound::KeptByPod) && bounds.contains(&Bound::KeptByNamespace), "{bounds:?}");
        let least = if restarts { 32 - LEAST_KEPT_OPEN.bytes / PAGE - FILES } else { 32 };
        assert!(node.space().free.bytes >= least * PAGE, "{:?}", node.space());
        let others = of(least);
        assert_eq!(node.ledger.renew(node.space(), Some(&pod(1, 100)), others), Ok(()), "a large volume of others");
    }
}

#[test]
fn after_a_restart_the_first_delivery_shows_what_its_pod_keeps_open() {
    let mut node = Node::default();
    node.deliver(0, 0, of(FILES), 0).unwrap();
    node.restart(0);
    node.deliver(0, 0, of(FILES), FILES).unwrap();
    assert_eq!(node.charged(0, 0), FILES);
    // What another program has written is not known.
    node.ledger.wrote(&id(0), Some(&pod(0, 0)), of(FILES), false);
    node.deliver(0, 0, of(FILES), FILES).unwrap();
    assert_eq!(node.charged(0, 0), FILES);
}

#[test]
fn what_an_unpublish_or_a_withdrawal_frees_is_not_what_a_pod_has_closed() {
    let mut node = Node::default();
    let (keeper, other) = (0, 1);
    for number in [keeper, other] {
        node.deliver(0, number, of(FILES), 0).unwrap();
    }
    (0..5).for_each(|_| node.deliver(0, keeper, of(FILES), 3).unwrap());
    for rest in [Some(of(1)), None] {
        node.deliver(0, other, of(FILES), 0).unwrap();
        node.remove(0, other, rest);
        node.ledger.settle(node.space());
        assert_eq!(node.charged(0, keeper), 15, "{rest:?}");
    }
    node.kept.clear();
    node.ledger.settle(node.space());
    assert_eq!(node.charged(0, keeper), 0);
}

/// Its pod reads the former files for a moment, and other pods and the driver itself hold space permanently.
#[test]
fn what_a_pod_has_closed_is_forgotten_although_others_keep_files_open() {
    let mut node = Node::default();
    let (reader, keeper, writer) = (0, 1, 2);
    (0..3).for_each(|number| node.deliver(number, number, of(FILES), 0).unwrap());
    (0..10).for_each(|_| node.deliver(keeper, keeper, of(FILES), 3).unwrap());
    for round in 0..30 {
        node.deliver(reader, reader, of(FILES), FILES).unwrap();
        assert_eq!(node.charged(reader, reader), FILES, "round {round}");
        // Others are renewed in between, also the keeper.
        node.own += 2;
        node.deliver(writer, writer, of(FILES), 0).unwrap();
        node.deliver(keeper, keeper, of(FILES), 3).unwrap();
        node.kept.remove(&reader);
    }
    node.deliver(writer, writer, of(FILES), 0).unwrap();
    assert_eq!(node.charged(reader, reader), 0);
    assert_eq!(node.charged(keeper, keeper), 30 + 30 * 3);
}

#[test]
fn what_is_closed_while_files_are_written_is_forgotten() {
    let mut node = Node::default();
    node.deliver(0, 0, of(FILES), 0).unwrap();
    node.deliver(0, 0, of(FILES), 3).unwrap();
    let before = node.space();
    node.kept.clear();
    node.ledger.delivered(&id(0), Some(&pod(0, 0)), of(FILES), [before, node.space()]);
    assert!(node.ledger.kept_open.is_empty());
}

/// In a delivery, its pod is charged at most for what it had.
#[test]
fn what_others_write_at_the_same_time_is_hardly_charged() {
    let mut node = Node::default();
    node.deliver(0, 0, of(FILES), 0).unwrap();
    let before = node.space();
    node.own = 100;
    node.ledger.delivered(&id(0), Some(&pod(0, 0)), of(FILES), [before, node.space()]);
    assert_eq!(node.charged(0, 0), FILES);
}

proptest! {
    /// Whatever pods keep open and close, between them they are charged for just that.
    #[test]
    fn all_charges_are_what_is_kept_open(steps in prop::collection::vec((0usize..6, 1u64..6, 0u64..6, any::<bool>()), 1..100)) {
        let mut node = Node { own: 7, ..Node::default() };
        for (number, files, keeps, closes) in steps {
            if closes {
                node.kept.remove(&number);
            } else {
                let former = node.volumes.get(&number).map_or(0, |former| former.bytes / PAGE);
                let _ = node.deliver(number % 2, number, of(files), keeps.min(former));
            }
            let space = node.space();
            node.ledger.settle(space);
            let charges = (0..6).map(|number| node.charged(number % 2, number)).sum::<u64>();
            prop_assert_eq!(charges, node.kept.values().sum::<u64>());
        }
    }
}

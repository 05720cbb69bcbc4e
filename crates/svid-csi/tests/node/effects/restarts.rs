//! What a driver leaves undone before it is killed, its next startup does: two faults, where a sweep has one.

use std::fs;

use nix::errno::Errno;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::effects::{Act, At, Class, Point, Span, Watch};
use tonic::Code;

use super::operation::Operation;
use super::oracle;
use super::plan::Plan;
use super::sweep::{fresh, is_possible};
use super::world::{Counted, World};
use crate::fixture::{test, until};
use crate::restart::lose_data_root;

#[test]
fn former_files_that_could_not_be_removed_are_removed_at_the_next_startup() {
    test(async || {
        if !is_possible("a failed removal") {
            return;
        }
        let mut world = fresh(Plan::Files, Operation::Renewal, Counted::Effects).await;
        let volume = world.volume("web");
        world.node.publish(&volume).await;
        let before = world.recorded_serial(&volume);
        let keeps_failing = Point { at: At::Matching(Class::Unlink, 1), act: Act::Fail(Errno::EIO, Span::ForGood) };
        let moment = fs::read_link(world.node.kubelet.target(&volume).join("..data")).unwrap();
        let about = vec![format!("/{}/", moment.display())];
        world.node.watched().watch(Watch { point: Some(keeps_failing), about });
        world.renew(&volume).await;
        let is_renewed = async || world.recorded_serial(&volume) != before && world.is_delivered(&volume);
        until("the renewal", is_renewed).await;
        assert_eq!(moments(&world, &volume), 2, "the former files were removed");
        world.node.kill();
        world.start().await;
        assert_eq!(moments(&world, &volume), 1, "the former files are left");
        oracle::unpublishes(&world, &volume).await.unwrap();
    });
}

/// How many generations of files there are.
fn moments(world: &World, volume: &InlineVolume) -> usize {
    let entries = fs::read_dir(world.node.kubelet.target(volume)).unwrap().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}

#[test]
fn an_identity_of_a_lost_ca_is_renewed_even_if_the_driver_is_killed_before_that() {
    test(async || {
        if !is_possible("a kill") {
            return;
        }
        let mut world = fresh(Plan::Files, Operation::StartCloned, Counted::Effects).await;
        let volume = world.volume("web");
        world.node.publish(&volume).await;
        world.node.kill();
        lose_data_root(&world.node);
        // The first says which trust bundle the volume has, the second which identity.
        let second = Point { at: At::Matching(Class::Rename, 2), act: Act::KillBefore };
        let watch = Watch { point: Some(second), about: vec![format!("/.{}.json.new", volume.id())] };
        world.node.spawn_watched(Some(watch), |scope| scope);
        world.node.watched().wait();
        world.node.reap();
        let untrusted = world.issued(&volume).and_then(|issued| issued.untrusted);
        assert!(untrusted.is_some(), "the record does not say that the chain is untrusted");
        world.start().await;
        oracle::eventually(async || oracle::is_whole(&world, &volume).await).await.unwrap();
        oracle::unpublishes(&world, &volume).await.unwrap();
    });
}

#[test]
fn a_publish_after_a_failed_unpublish_does_not_end_with_a_final_code() {
    test(async || {
        if !is_possible("a failed unmount") {
            return;
        }
        let world = fresh(Plan::Files, Operation::Unpublish, Counted::Effects).await;
        let volume = world.volume("web");
        world.node.publish(&volume).await;
        let fails = Point { at: At::Matching(Class::Umount, 1), act: Act::Fail(Errno::ENOMEM, Span::Once) };
        world.node.watched().watch(Some(fails));
        world.node.kubelet.unpublish(&world.node.plugin().await, &volume).await.unwrap_err();
        // The kubelet would take its volume for one that it never has to unpublish.
        let (code, error) = world.node.refused(&volume.clone().attribute("svid-csi/nonsense", "x")).await;
        assert_eq!(code, Code::Unavailable, "{error}");
        world.node.watched().finish();
        oracle::unpublishes(&world, &volume).await.unwrap();
    });
}

#![allow(clippy::unwrap_used)]
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use taf_format::segment::{Cutter, Identity, Method, RawSegment};
use uuid::Uuid;

use super::*;

fn segment(sequence: u64, length: usize) -> Segment {
    let header = Header {
        line_uuid: Uuid::nil(),
        version: 1,
        archive_ordinal: 1,
        archive_uuid: Uuid::nil(),
        attempt: 1,
        sequence,
        tar_offset: 0,
        next_entry: None,
        tar_length: 0,
        stored_length: 0,
        records_length: 0,
        stored_crc32c: 0,
        method: Method::Zstd,
        suite: 0,
        last: false,
    };
    Segment {
        header,
        bytes: Bytes::from(vec![sequence as u8; length]),
    }
}

/// Memory alone, for a drive that is never waited for.
fn memory(memory: u64) -> Plan {
    Plan {
        memory,
        disk: None,
        terms: Terms {
            floor: 0,
            wait: Duration::from_secs(1),
        },
        clock: clock(),
    }
}

/// A little memory, and a disk.
fn with_disk(memory_size: u64, disk_size: u64) -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let place = disk::Place::prepare(folder.path().join("drive"), disk_size).unwrap();
    let plan = Plan {
        disk: Some(place.create("1").unwrap()),
        ..memory(memory_size)
    };
    (folder, plan)
}

/// Segments with true checksums, of lengths of all kinds.
fn true_segments(dice: &mut StdRng, count: usize) -> Vec<Segment> {
    let identity = Identity {
        line_uuid: Uuid::nil(),
        version: 1,
        archive_ordinal: 1,
        archive_uuid: Uuid::nil(),
        attempt: 1,
    };
    let mut cutter = Cutter::with_segment_size(identity, 30_000);
    let mut tar = vec![0; 30_000 * count];
    dice.fill_bytes(&mut tar);
    for chunk in tar.chunks_mut(30_000) {
        // Zeros compress.
        let zeros = dice.random_range(0..30_000);
        chunk[..zeros].fill(0);
        cutter.push_tar(chunk);
    }
    let seal = |raw: RawSegment| {
        let sealed = raw.seal(1).unwrap();
        Segment {
            header: sealed.header,
            bytes: sealed.bytes,
        }
    };
    cutter.finish().into_iter().map(seal).collect()
}

fn next(outlet: &mut Outlet) -> Option<Segment> {
    match outlet.next_blocking().unwrap() {
        Next::Segment(segment) => Some(segment),
        Next::Starved | Next::Yield => panic!("nothing for long"),
        Next::Ended => None,
    }
}

fn takes(outlet: &mut Outlet) -> u64 {
    next(outlet).unwrap().header.sequence
}

#[tokio::test]
async fn what_is_taken_stays_until_it_is_released() {
    let (inlet, mut outlet) = ring(memory(100));
    for sequence in 0..4 {
        inlet.put(segment(sequence, 25)).await.unwrap();
    }
    let full = inlet.put(segment(4, 25));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), full)
            .await
            .is_err()
    );
    assert_eq!([takes(&mut outlet), takes(&mut outlet)], [0, 1]);
    assert_eq!(outlet.unreleased(), 50);
    outlet.go_back(0).unwrap();
    assert_eq!(takes(&mut outlet), 0);
    outlet.release(0);
    assert_eq!(outlet.go_back(0), Err(Released { first_kept: 1 }));
    // What was not taken is not released, whatever is said.
    outlet.release(3);
    assert_eq!(takes(&mut outlet), 1);
    inlet.put(segment(4, 25)).await.unwrap();
    drop(inlet);
    assert_eq!(
        [takes(&mut outlet), takes(&mut outlet), takes(&mut outlet)],
        [2, 3, 4]
    );
    assert!(next(&mut outlet).is_none());
    // The archive has ended, and may still have to be written again.
    outlet.go_back(3).unwrap();
    assert_eq!([takes(&mut outlet), takes(&mut outlet)], [3, 4]);
    outlet.release(4);
    assert_eq!(outlet.go_back(4), Err(Released { first_kept: 5 }));
    outlet.go_back(5).unwrap();
    assert!(next(&mut outlet).is_none());
}

#[tokio::test]
async fn a_segment_larger_than_the_ring_passes_alone_and_a_lost_outlet_is_told() {
    let (inlet, mut outlet) = ring(memory(10));
    inlet.put(segment(0, 30)).await.unwrap();
    assert_eq!(takes(&mut outlet), 0);
    outlet.release(0);
    inlet.put(segment(1, 30)).await.unwrap();
    let waiting = tokio::spawn(async move { inlet.put(segment(2, 30)).await });
    tokio::task::yield_now().await;
    drop(outlet);
    assert_eq!(waiting.await.unwrap(), Err(Closed));

    let (inlet, mut outlet) = ring(memory(10));
    inlet.put(segment(0, 1)).await.unwrap();
    outlet.halt().now();
    assert!(next(&mut outlet).is_none());
    assert_eq!(inlet.put(segment(1, 1)).await, Err(Closed));
}

#[test]
fn a_small_ring_costs_much() {
    assert!(flush_cost(2 << 30) < 0.6);
    assert!(flush_cost(64 << 20) > 0.9);
}

fn damage(outlet: &mut Outlet) -> Fault {
    match outlet.next_blocking() {
        Ok(_) => panic!("something comes out"),
        Err(fault) => fault,
    }
}

/// Whatever is released and gone back over, every segment comes out in order, and the ring never holds more than it may: in
/// memory, and with a disk behind very little of it.
#[test]
fn any_course_gives_every_segment() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    for (memory_size, disk_size) in [(400_000, 0), (70_000, 330_000), (10, 400_000), (10, 0)] {
        let (_folder, plan) = if disk_size > 0 {
            let (folder, plan) = with_disk(memory_size, disk_size);
            (Some(folder), plan)
        } else {
            (None, memory(memory_size))
        };
        let (inlet, mut outlet) = ring(plan);
        let most = memory_size + disk_size;
        let segments = true_segments(&mut dice, 200);
        let coming = segments.clone();
        let putting = runtime.spawn(async move {
            for segment in coming {
                inlet.put(segment).await.unwrap();
            }
        });
        let (mut expected, mut released) = (0, 0);
        while let Some(segment) = next(&mut outlet) {
            let wanted = &segments[expected as usize];
            assert_eq!(segment.header, wanted.header);
            assert_eq!(segment.bytes, wanted.bytes);
            expected += 1;
            assert!(outlet.unreleased() <= most.max(60_000));
            // As the drive's thread does, which keeps it from growing when all of it was taken.
            if outlet.unreleased() > most / 2 {
                released = expected;
                outlet.release(expected - 1);
            } else if dice.random_ratio(1, 10) {
                expected = dice.random_range(released..=expected);
                outlet.go_back(expected).unwrap();
            } else if dice.random_ratio(1, 2) && expected > released {
                released = dice.random_range(released + 1..=expected);
                outlet.release(released - 1);
            }
        }
        assert_eq!(expected, 200);
        outlet.release(199);
        let flow = outlet.meter().read();
        assert_eq!((flow.ring_byte_count, flow.spool_byte_count), (0, 0));
        assert_eq!((flow.ring_size, flow.spool_size), (memory_size, disk_size));
        runtime.block_on(putting).unwrap();
    }
}

#[tokio::test]
async fn what_a_disk_changes_does_not_come_out() {
    let mut dice = StdRng::seed_from_u64(7);
    let segments = true_segments(&mut dice, 8);
    let file = |folder: &tempfile::TempDir| folder.path().join("drive/1.spool");
    for byte in 0..40 {
        let (folder, plan) = with_disk(10, 1 << 20);
        let (inlet, mut outlet) = ring(plan);
        for segment in &segments {
            inlet.put(segment.clone()).await.unwrap();
        }
        let mut content = std::fs::read(file(&folder)).unwrap();
        let length = segments[0].bytes.len();
        let at = if byte == 0 {
            0
        } else {
            dice.random_range(0..length)
        };
        content[at] ^= 1 << dice.random_range(0..8);
        std::fs::write(file(&folder), content).unwrap();
        let fault = damage(&mut outlet);
        assert_eq!(fault.reason, "SPOOL_DAMAGED");
        assert!(fault.message.contains("1.spool"), "{fault:?}");
        drop((inlet, outlet));
        assert!(!file(&folder).exists());
    }
    // A write that the disk has lost: an older segment is still there, whole.
    let (folder, plan) = with_disk(10, 1 << 20);
    let (inlet, mut outlet) = ring(plan);
    for segment in &segments {
        inlet.put(segment.clone()).await.unwrap();
    }
    assert_eq!(takes(&mut outlet), 0);
    outlet.go_back(0).unwrap();
    let mut content = std::fs::read(file(&folder)).unwrap();
    let length = segments[0].bytes.len();
    let other = &segments[if segments[1].bytes.len() == length {
        2
    } else {
        1
    }];
    let mut old = other.bytes.to_vec();
    old.resize(length, 0);
    content[..length].copy_from_slice(&old);
    std::fs::write(file(&folder), &content).unwrap();
    assert_eq!(damage(&mut outlet).reason, "SPOOL_DAMAGED");
    // One of the very same length.
    let mut twin = Header {
        sequence: 7,
        ..segments[0].header.clone()
    };
    twin.tar_offset = 7;
    let head = twin.encode();
    content[..head.len()].copy_from_slice(&head);
    content[head.len()..length].copy_from_slice(&segments[0].bytes[head.len()..]);
    std::fs::write(file(&folder), &content).unwrap();
    outlet.go_back(0).unwrap();
    assert!(damage(&mut outlet).message.contains("another segment"));
}

#[tokio::test]
async fn without_its_disk_it_goes_on_with_memory() {
    let mut dice = StdRng::seed_from_u64(8);
    let segments = true_segments(&mut dice, 6);
    let (folder, mut plan) = with_disk(10, 1 << 20);
    // Nothing can be written into it.
    let path = folder.path().join("drive/2.spool");
    std::fs::write(&path, "").unwrap();
    plan.disk = Some(disk::Disk::unwritable(&path, 1 << 20));
    let (inlet, mut outlet) = ring(plan);
    assert_eq!(outlet.capacity(), 10 + (1 << 20));
    let coming = segments.clone();
    let putting = tokio::spawn(async move {
        for segment in coming {
            inlet.put(segment).await.unwrap();
        }
    });
    let found = tokio::time::timeout(Duration::from_secs(30), async {
        while outlet.capacity() > 10 {
            tokio::task::yield_now().await;
        }
    });
    found.await.unwrap();
    let taking = tokio::task::spawn_blocking(move || {
        for sequence in 0..6 {
            assert_eq!(takes(&mut outlet), sequence);
            outlet.release(sequence);
        }
        assert!(next(&mut outlet).is_none());
    });
    putting.await.unwrap();
    taking.await.unwrap();
}

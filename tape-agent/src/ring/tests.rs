#![allow(clippy::unwrap_used)]
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use taf_format::segment::Method;
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

fn takes(outlet: &mut Outlet) -> u64 {
    outlet.next_blocking().unwrap().header.sequence
}

#[tokio::test]
async fn what_is_taken_stays_until_it_is_released() {
    let (inlet, mut outlet) = ring(100);
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
    assert!(outlet.next_blocking().is_none());
    // The archive has ended, and may still have to be written again.
    outlet.go_back(3).unwrap();
    assert_eq!([takes(&mut outlet), takes(&mut outlet)], [3, 4]);
    outlet.release(4);
    assert_eq!(outlet.go_back(4), Err(Released { first_kept: 5 }));
    outlet.go_back(5).unwrap();
    assert!(outlet.next_blocking().is_none());
}

#[tokio::test]
async fn a_segment_larger_than_the_ring_passes_alone_and_a_lost_outlet_is_told() {
    let (inlet, mut outlet) = ring(10);
    inlet.put(segment(0, 30)).await.unwrap();
    assert_eq!(takes(&mut outlet), 0);
    outlet.release(0);
    inlet.put(segment(1, 30)).await.unwrap();
    let waiting = tokio::spawn(async move { inlet.put(segment(2, 30)).await });
    tokio::task::yield_now().await;
    drop(outlet);
    assert_eq!(waiting.await.unwrap(), Err(Closed));

    let (inlet, mut outlet) = ring(10);
    inlet.put(segment(0, 1)).await.unwrap();
    outlet.halt().now();
    assert!(outlet.next_blocking().is_none());
    assert_eq!(inlet.put(segment(1, 1)).await, Err(Closed));
}

#[test]
fn a_small_ring_costs_much() {
    assert!(flush_cost(2 << 30) < 0.6);
    assert!(flush_cost(64 << 20) > 0.9);
}

/// Whatever is released and gone back over, every segment comes out in order, and the ring never holds more than it may.
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
    let (inlet, mut outlet) = ring(1000);
    let lengths: Vec<usize> = (0..400).map(|_| dice.random_range(1..=300)).collect();
    let putting = runtime.spawn(async move {
        for (sequence, length) in (0..).zip(lengths) {
            inlet.put(segment(sequence, length)).await.unwrap();
        }
    });
    let (mut next, mut released) = (0, 0);
    while let Some(segment) = outlet.next_blocking() {
        assert_eq!(segment.header.sequence, next);
        assert_eq!(segment.bytes[0], next as u8);
        next += 1;
        assert!(outlet.unreleased() <= 1000);
        if dice.random_ratio(1, 10) {
            next = dice.random_range(released..=next);
            outlet.go_back(next).unwrap();
        } else if dice.random_ratio(1, 2) && next > released {
            released = dice.random_range(released + 1..=next);
            outlet.release(released - 1);
        }
        // What was taken must leave room for any segment: the ring waits for a release, as long as it takes.
        if outlet.unreleased() > 600 {
            released = next;
            outlet.release(next - 1);
        }
    }
    assert_eq!(next, 400);
    runtime.block_on(putting).unwrap();
}

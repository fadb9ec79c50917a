//! Clients of the socket: good, slow, broken and hostile ones.

use std::io::Write;
use std::net::Shutdown;

use headroom_shared::wire::{HELLO_MAGIC, MAX_UNANSWERED, Outputs, RefusalReason, Request, WhenFull};

use crate::server::{Home, Received, Server, connect, receive};

/// Asks for an inference and gets it.
pub fn is_served(server: &Server) {
    let client = server.client(WhenFull::Wait, 1);
    client.infer(7);
    assert!(matches!(client.receive(), Received::Result { id: 7, .. }));
}

#[test]
fn several_clients_get_their_own_answers() {
    let home = Home::new();
    let server = home.serve(home.command());
    let clients: Vec<_> = (0..5).map(|_| server.client(WhenFull::Wait, 4)).collect();
    assert_eq!((clients[0].model.width, clients[0].model.embed_dim, clients[0].model.classes), (8, 16, 3));
    assert_eq!(clients[0].model.rungs, 4);
    for round in 0..20 {
        for (number, client) in clients.iter().enumerate() {
            client.infer(round * 10 + number as u64);
        }
    }
    let mut first = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let mut ids: Vec<u64> = (0..20)
            .map(|_| match client.receive() {
                Received::Result { id, rung: 0, embedding, logits, fidelity, bundle } => {
                    assert_eq!((embedding.len(), logits.len(), bundle), (16, 3, client.model.bundle));
                    assert!((fidelity - 1.0).abs() < 1e-6);
                    first.push((id as u8, embedding));
                    id
                }
                other => panic!("{other:?}"),
            })
            .collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq((0..20).map(|round| round * 10 + number as u64)));
    }
    // The same image gives the same bits, whoever sends it.
    first.sort_by_key(|(image, _)| *image);
    assert!(first.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1));
    assert!(!server.stop().contains("client"));
}

#[test]
fn outputs_are_those_that_were_asked_for() {
    let home = Home::new();
    let server = home.serve(home.command());
    let client = server.client(WhenFull::Wait, 1);
    for (outputs, lengths) in [(Outputs::Embedding, (16, 0)), (Outputs::Logits, (0, 3)), (Outputs::Both, (16, 3))] {
        client.send(&Request::Infer { id: 1, width: 1, height: 1, outputs, rgb: &[1, 2, 3] });
        let Received::Result { embedding, logits, .. } = client.receive() else { panic!("a result") };
        assert_eq!((embedding.len(), logits.len()), lengths);
    }
    client.send(&Request::Status { id: 9 });
    let Received::Status { id: 9, rung: 0, mode, bundle, .. } = client.receive() else { panic!("a status") };
    assert_eq!((mode.as_str(), bundle), ("normal", client.model.bundle));
    client.send(&Request::DumpFlightRecord { id: 10 });
    assert!(matches!(client.receive(), Received::Failed { id: 10, text } if text.contains("--flight-record")));
    server.stop();
}

/// Everything a client can send instead of a message, each on a connection of its own.
fn garbage(number: usize) -> Vec<u8> {
    let hello = || {
        let mut bytes = vec![15, 0, 0, 0, 0];
        bytes.extend(HELLO_MAGIC);
        bytes.extend([1, 0, 0, 0, 0, 1]);
        bytes
    };
    let after_hello = |rest: &[u8]| [&hello()[..], rest].concat();
    match number % 8 {
        0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        1 => vec![0; 64],
        2 => vec![0xff; 64],
        3 => [&[15, 0, 0, 0, 0][..], &HELLO_MAGIC, &[99, 0, 0, 0, 0, 1]].concat(),
        4 => after_hello(&hello()),
        5 => after_hello(&[3, 0, 0, 0, 77, 1, 2]),
        // An image whose bytes are not those of its size.
        6 => after_hello(&[8, 0, 0, 0, 1, 5, 100, 100, 0, 2, 0, 0]),
        // More bytes than any message has.
        _ => after_hello(&[0xff, 0xff, 0xff, 0x7f]),
    }
}

#[test]
fn ten_thousand_garbage_messages_do_no_harm() {
    let home = Home::new();
    let server = home.serve(home.command());
    for number in 0..10_000 {
        let mut stream = connect(server.socket());
        stream.write_all(&garbage(number)).unwrap();
        let mut answer = receive(&stream);
        if matches!(answer, Received::Hello(_)) {
            answer = receive(&stream);
        }
        let Received::Error { text } = answer else { panic!("message {number}: {answer:?}") };
        assert!(number % 8 != 3 || (text.contains("99") && text.contains("version 1")), "{text}");
        assert_eq!(receive(&stream), Received::End);
        if number % 1000 == 0 {
            is_served(&server);
        }
    }
    is_served(&server);
    // The log says that there was something, and does not drown in it.
    let log = server.stop();
    assert!(log.contains("a client was"), "{log}");
    assert!(log.lines().count() < 100, "{log}");
}

#[test]
fn clients_that_stall_delay_nobody_and_are_cut_off() {
    let home = Home::new();
    let server = home.serve(home.command());
    // One that says nothing, one that stops inside its hello, one inside an image.
    let silent = connect(server.socket());
    let half = connect(server.socket());
    (&half).write_all(&garbage(4)[..9]).unwrap();
    let inside = server.client(WhenFull::DropOldest, 1);
    (&inside.stream).write_all(&[0, 0, 1, 0, 1]).unwrap();
    // One that sends and takes no answers: beyond so many, its requests are not read, and its writing stops.
    let greedy = server.client(WhenFull::Wait, 8);
    greedy.stream.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let request = Request::Infer { id: 1, width: 64, height: 64, outputs: Outputs::Both, rgb: &[9; 64 * 64 * 3] };
    let sent = (0..10_000).take_while(|_| crate::server::send(&greedy.stream, &request).is_ok()).count();
    assert!((MAX_UNANSWERED..10_000).contains(&sent), "{sent} requests were taken");

    for _ in 0..50 {
        is_served(&server);
    }
    for stalled in [&silent, &half, &inside.stream] {
        let Received::Error { text } = receive(stalled) else { panic!("an error") };
        assert!(text.contains("in time"), "{text}");
        assert_eq!(receive(stalled), Received::End);
    }
    server.stop();
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answers() {
    let home = Home::new();
    let server = home.serve(home.command());
    let client = server.client(WhenFull::Wait, 8);
    (0..8).for_each(|id| client.infer(id));
    client.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..8 {
        assert!(matches!(client.receive(), Received::Result { .. }));
    }
    assert_eq!(client.receive(), Received::End);
    server.stop();
}

#[test]
fn clients_beyond_the_limit_are_told_and_have_room_when_others_leave() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["--clients", "2"]);
    let server = home.serve(command);
    let (first, _second) = (server.client(WhenFull::Wait, 1), server.client(WhenFull::Wait, 1));
    let third = connect(server.socket());
    assert!(matches!(receive(&third), Received::Error { text } if text.contains("too many")));
    drop(first);
    let served = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let stream = connect(server.socket());
        // Refused by a server that did not wait for it: the hello may find a closed door.
        crate::server::send(&stream, &Request::hello(WhenFull::Wait, 1)).is_ok()
            && matches!(receive(&stream), Received::Hello(_))
    });
    assert!(served);
    server.stop();
}

#[test]
fn a_camera_is_told_which_frames_were_dropped() {
    let home = Home::new();
    let server = home.serve(home.command());
    let camera = server.client(WhenFull::DropOldest, 1);
    let frames = 50;
    // Large enough that preprocessing takes longer than sending.
    let rgb = vec![100; 640 * 480 * 3];
    for id in 0..frames {
        camera.send(&Request::Infer { id, width: 640, height: 480, outputs: Outputs::Embedding, rgb: &rgb });
    }
    let mut seen = vec![0; frames as usize];
    let mut dropped = 0;
    for _ in 0..frames {
        match camera.receive() {
            Received::Result { id, .. } => seen[id as usize] += 1,
            Received::Refused { id, reason: RefusalReason::Dropped } => {
                seen[id as usize] += 1;
                dropped += 1;
                // The newest is never dropped.
                assert!(id < frames - 1);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
    assert!(dropped < frames, "all were dropped");
    server.stop();
}

//! The extensions of certificates.

use super::certificate::{ID, Maker, NULL, sequence};
use crate::forge::der;

const TRUE: &[u8] = &[1, 1, 0xff];

impl Maker<'_> {
    pub(super) fn extensions(&mut self) -> Vec<u8> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        let is_leaf = self.is_leaf;
        if is_leaf || self.rolls.one_in(3) {
            let names = self.names();
            all.push(self.extension("names", 17, if is_leaf { TRUE } else { &[] }, &names));
        }
        let usage: &[u8] = if is_leaf { &[3, 2, 7, 0x80] } else { &[3, 2, 1, 6] };
        let usage = self.mostly(
            "usage",
            usage,
            15,
            &[
                &[3, 2, 7, 0x80],
                &[3, 2, 1, 6],
                &[3, 2, 2, 4],
                &[3, 2, 1, 2],
                &[3, 2, 3, 8],
                &[3, 2, 2, 0x84],
                &[3, 2, 0, 0x80],
                &[3, 2, 7, 0x81],
                &[3, 1, 0],
                &[3, 3, 7, 0x80, 0x80],
                &[3, 2, 5, 0xa0],
                &[3, 2, 1, 0x82],
                &[3, 2, 1, 0x86],
                &[4, 1, 0x80],
                &[3, 2, 8, 0x80],
                &[3, 4, 0, 0x80, 0, 0],
            ],
        );
        if self.rolls.one_in(40) {
            self.notes.push("no usage".to_owned());
        } else {
            all.push(self.extension("usage", 15, TRUE, &usage));
        }
        let basic: &[u8] = if is_leaf { &[0x30, 0] } else { &[0x30, 3, 1, 1, 0xff] };
        let basic = self.mostly(
            "constraints",
            basic,
            15,
            &[
                &[0x30, 0],
                &[0x30, 3, 1, 1, 0xff],
                &[0x30, 3, 1, 1, 0],
                &[0x30, 3, 1, 1, 1],
                &[0x30, 6, 1, 1, 0xff, 2, 1, 0],
                &[0x30, 6, 1, 1, 0xff, 2, 1, 0x80],
                &[0x30, 3, 2, 1, 0],
                &[0x30, 3, 2, 1, 1],
                &[0x31, 0],
                &[0x30, 7, 1, 1, 0xff, 2, 2, 0, 1],
                &[],
                &[0x30, 0, 0],
            ],
        );
        if !self.rolls.one_in(if is_leaf { 2 } else { 40 }) {
            all.push(self.extension("constraints", 19, TRUE, &basic));
        }
        if self.rolls.one_in(2) {
            let usages = self.extended_usages();
            all.push(self.extension("extended usage", 37, &[], &usages));
        }
        match self.rolls.roll(30) {
            1 => all.push(self.extension("unknown", 99, TRUE, NULL)),
            2 => all.push(self.extension("unknown", 99, &[], &[0xff])),
            3 => all.push(self.extension("key id", 14, &[], &[4, 1, 7])),
            4 => all.push(self.extension("authority key id", 35, &[], &[0x30, 3, 0x80, 1, 7])),
            5 if !all.is_empty() => all.extend_from_within(..1),
            6 => all.reverse(),
            7 => all.push(self.extension("key id", 14, &[], &[5, 0])),
            8 => all.push(self.extension("authority key id", 35, &[], &[0x30, 2, 0x81, 0])),
            9 => all.push(self.extension("policies", 32, &[], &[0x30, 0])),
            _ => {}
        }
        let list = sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let whole = der(0xa3, &[&list]);
        self.mostly("extensions", &whole, 100, &[&[], &[0xa3, 2, 0x30, 0], &[0xa3, 0]])
    }

    fn extension(&mut self, what: &str, number: u8, critical: &[u8], value: &[u8]) -> Vec<u8> {
        let critical = self.mostly(what, critical, 20, &[&[], TRUE, &[1, 1, 0], &[1, 1, 1], &[1, 0]]);
        sequence(&[&[6, 3, 0x55, 0x1d, number], &critical, &der(4, &[value])])
    }

    fn names(&mut self) -> Vec<u8> {
        let usual = if self.is_leaf { ID } else { "spiffe://example.org" };
        let uri = self.mostly(
            "name",
            usual.as_bytes(),
            12,
            &[
                b"spiffe://example.org/a",
                b"SPIFFE://example.org/ns/shop/sa/cart",
                b"spiffe://example.org/ns/shop/sa/cart?a",
                b"spiffe://example.org/ns/shop/sa/cart#",
                b"spiffe://example.org/ns/shop/sa/c%61rt",
                b"spiffe://example.org:80/a",
                b"spiffe://u@example.org/a",
                b"",
                b"%",
                b"\xe9",
                b"https://a",
                b"spiffe://EXAMPLE.org/a",
                b"spiffe://example.org/ns/shop/sa/cart/",
                b"spiffe:///a",
                b"spiffe://example.org",
                b"spiffe://[::1]/a",
                b"spiffe://example.org/ns/shop/sa/cart\0",
                b"spiffe://example.org/ns/shop//sa",
                b"a b",
            ],
        );
        let mut all = vec![der(0x86, &[&uri])];
        if self.rolls.one_in(6) {
            let names: [&[u8]; 24] = [
                &[0x82, 1, b'a'],
                &[0x82, 0],
                &[0x82, 1, 0xe9],
                &[0x82, 3, b'*', b'.', b'a'],
                &[0x87, 4, 1, 2, 3, 4],
                &[0x87, 5, 1, 2, 3, 4, 5],
                &[0x87, 0],
                &[0x81, 3, b'a', b'@', b'b'],
                &[0x81, 1, b'a'],
                &[0x86, 1, b'a'],
                &[0x86, 8, b'h', b't', b't', b'p', b':', b'/', b'/', b'a'],
                &[0x88, 1, 0x2a],
                &[0xa0, 2, 5, 0],
                &[0xa4, 2, 0x30, 0],
                &[0x89, 1, 1],
                &[0xa4, 0],
                &[0x05, 0],
                &[0x82, 2, b'a', b'.'],
                &[0x82, 2, b'a', b'_'],
                &[0x82, 1, b' '],
                &[0xa6, 1, b'a'],
                &[0x83, 2, 5, 0],
                &[0x88, 1, 0x80],
                &[0x87, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            ];
            let name = self.rolls.pick(&names);
            self.notes.push(format!("name {name:02x?}"));
            if self.rolls.one_in(2) { all.insert(0, name.to_vec()) } else { all.push(name.to_vec()) }
        }
        sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn extended_usages(&mut self) -> Vec<u8> {
        const SERVER: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
        const CLIENT: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
        const EMAIL: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 4];
        const ANY: &[u8] = &[6, 4, 0x55, 0x1d, 0x25, 0];
        let usual = sequence(&[SERVER, CLIENT]);
        let sets = [
            sequence(&[SERVER]),
            sequence(&[CLIENT]),
            sequence(&[ANY]),
            sequence(&[EMAIL]),
            sequence(&[ANY, SERVER, CLIENT]),
        ];
        let more = [
            sequence(&[]),
            sequence(&[SERVER, SERVER]),
            sequence(&[EMAIL, CLIENT, SERVER]),
            sequence(&[NULL]),
            sequence(&[&[6, 0]]),
            vec![],
        ];
        let others: Vec<&[u8]> = sets.iter().chain(&more).map(Vec::as_slice).collect();
        self.mostly("extended usage", &usual, 10, &others)
    }
}

//! The list of files, as a guest reads it: big-endian throughout.

/// The longest name in bytes: the field has one more, for the NUL.
pub const LONGEST_NAME: usize = 55;

/// Encodes key, name and length of each file.
pub fn encode<'a>(files: impl ExactSizeIterator<Item = (u16, &'a str, usize)>) -> Vec<u8> {
    let mut bytes = field(files.len()).to_vec();
    for (key, name, len) in files {
        bytes.extend(field(len));
        bytes.extend(key.to_be_bytes());
        bytes.extend([0; 2]);
        let mut padded = [0; LONGEST_NAME + 1];
        let len = name.len().min(LONGEST_NAME);
        padded[..len].copy_from_slice(&name.as_bytes()[..len]);
        bytes.extend(padded);
    }
    bytes
}

fn field(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

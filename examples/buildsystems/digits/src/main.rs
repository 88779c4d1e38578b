fn main() {
    println!("{}", itoa::Buffer::new().format(6 * 7));
}

//! Gives the module the name that it is installed by: ldconfig and packages go by it.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnss_muster.so.2");
    println!("cargo::rerun-if-changed=build.rs");
}

//! The options of a control plane, with or without a node.

/// The options. The defaults suit most tests.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A part of the name of the directory, to distinguish control planes; for a permanent cluster its name.
    pub name: String,
    /// Additional flags of kube-apiserver; they override the flags of the bed.
    pub api_server_args: Vec<String>,
    /// Additional flags of kube-controller-manager; they override the flags of the bed.
    pub controller_manager_args: Vec<String>,
}

impl Options {
    /// The name as a part of file names and control groups. The name can be that of a test, with `::` in it, and too
    /// long for the path of a socket.
    pub(crate) fn word(&self) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        self.name.chars().take(30).map(letter).collect()
    }
}

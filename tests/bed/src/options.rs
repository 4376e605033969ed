//! How a control plane, with or without a node, is to be.

/// What may be chosen. The default is fine for most.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A word for the name of its directory, to tell them apart; of a cluster that stays, its name.
    pub name: String,
    /// More flags of kube-apiserver; they win over the bed's own.
    pub api_server_args: Vec<String>,
    /// More flags of kube-controller-manager; they win over the bed's own.
    pub controller_manager_args: Vec<String>,
}

impl Options {
    /// The name as a part of file names and control groups: a test's own name, say, with `::` in it, and so long
    /// that the path of a socket below would not fit.
    pub(crate) fn word(&self) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        self.name.chars().take(30).map(letter).collect()
    }
}

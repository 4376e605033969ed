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

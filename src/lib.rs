//! town-operator

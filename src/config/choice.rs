//! Keys that are one of a few words.

use serde::{Deserialize, Serialize};

macro_rules! choice {
    ($(#[doc = $doc:literal])+ $Name:ident { $( $(#[doc = $variant_doc:literal])+ $Variant:ident = $text:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $Name {
            $( $(#[doc = $variant_doc])+ #[serde(rename = $text)] $Variant, )+
        }

        impl $Name {
            /// The accepted words.
            pub const NAMES: &[&str] = &[$($text),+];

            /// The word of this choice.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$Variant => $text, )+
                }
            }
        }
    };
}

choice! {
    /// `engine.mode`.
    EngineMode {
        /// Connect if there is an engine, else embedded.
        Auto = "auto",
        /// The engine inside this process.
        Embedded = "embedded",
        /// An engine elsewhere.
        Connect = "connect",
    }
}

choice! {
    /// `engine.durability`.
    Durability {
        /// Sync each write group.
        Full = "full",
        /// Leave it to the system.
        Normal = "normal",
    }
}

choice! {
    /// `session.store_backend`.
    StoreBackend {
        /// State of the engine.
        IiiState = "iii_state",
        /// Memory of this process; gone at its end.
        Memory = "memory",
    }
}

choice! {
    /// `budgets.unpriced`.
    Unpriced {
        /// The call does not happen.
        Refuse = "refuse",
        /// The call happens and counts nothing.
        Allow = "allow",
    }
}

choice! {
    /// `budgets.at_ceiling`.
    AtCeiling {
        /// The run ends with an error message.
        End = "end",
        /// The run rests until there is money.
        Park = "park",
    }
}

choice! {
    /// `log.format`.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

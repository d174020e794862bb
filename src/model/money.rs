//! US dollars as whole micro-dollars inside and JSON numbers outside (contract 07 weakness 7, field lesson B11).

use std::ops::{Add, Sub};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Micro-dollars of one dollar.
const MICROS: i64 = 1_000_000;

/// An amount of US dollars, exact to the micro-dollar.
///
/// On the wire it is a JSON number of dollars; up to [`Usd::MAX`] such a number tells every micro-dollar apart. What is
/// finer is rounded up, so that many small amounts never add up to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Largest amount: a billion dollars. Up to it a number is read back right, also by readers that miss the last bit.
    pub const MAX: Self = Self(1_000_000_000 * MICROS);

    /// So many micro-dollars.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// How many micro-dollars.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// A number of dollars; none when it is no number, or beyond [`Usd::MAX`] either way. The noise of binary fractions
    /// (`0.1 + 0.2`) is no amount; a part of a micro-dollar counts as a whole one.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        /// Micro-dollars that are noise.
        const NOISE: f64 = 1e-3;
        let micros = dollars * as_f64(MICROS);
        if !micros.is_finite() || micros.abs() > as_f64(Self::MAX.0) {
            return None;
        }
        let nearest = micros.round();
        let is_exact = (micros - nearest).abs() <= NOISE.max(micros.abs() * 4.0 * f64::EPSILON);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number within the limits above"
        )]
        let micros = if is_exact { nearest } else { micros.ceil() } as i64;
        Some(Self(micros))
    }

    /// As a number of dollars, the one that is written for it.
    pub fn dollars(self) -> f64 {
        as_f64(self.0) / as_f64(MICROS)
    }

    /// What part of an amount this is, nearest to the exact quotient; 0 of nothing or less.
    pub fn share_of(self, whole: Self) -> f64 {
        if whole > Self::ZERO {
            as_f64(self.0) / as_f64(whole.0)
        } else {
            0.0
        }
    }

    /// The sum; none beyond [`Usd::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.0.checked_add(other.0)?;
        (sum <= Self::MAX.0).then_some(Self(sum))
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts are below 2^53 micro-dollars")]
fn as_f64(micros: i64) -> f64 {
    micros as f64
}

impl Add for Usd {
    type Output = Self;

    /// At the ends of the range it stays there.
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;

    /// At the ends of the range it stays there.
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl std::fmt::Display for Usd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.dollars())
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % MICROS == 0 {
            serializer.serialize_i64(self.0 / MICROS)
        } else {
            serializer.serialize_f64(self.dollars())
        }
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        Self::from_dollars(dollars).ok_or_else(|| D::Error::custom("amount out of range"))
    }
}

impl JsonSchema for Usd {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Usd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use serde_json::json;

    fn micros(dollars: f64) -> Option<i64> {
        Usd::from_dollars(dollars).map(Usd::micros)
    }

    #[test]
    fn dollars_become_whole_micro_dollars() {
        for (dollars, expected) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (10.0, Some(10_000_000)),
            (3.01, Some(3_010_000)),
            (0.1 + 0.2, Some(300_000)),
            (0.000_001, Some(1)),
            (0.000_000_4, Some(1)),
            (1.000_000_4, Some(1_000_001)),
            (1e-12, Some(0)),
            (-2.5, Some(-2_500_000)),
            (1e9, Some(Usd::MAX.micros())),
            (1.1e9, None),
            (-1.1e9, None),
            (f64::MAX, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(micros(dollars), expected, "{dollars}");
        }
    }

    #[test]
    fn whole_dollars_are_written_without_a_fraction() {
        let written = |micros| serde_json::to_value(Usd::from_micros(micros)).unwrap();
        assert_eq!(written(10_000_000), json!(10));
        assert_eq!(written(-2_000_000), json!(-2));
        assert_eq!(written(500_000), json!(0.5));
        assert_eq!(serde_json::from_value::<Usd>(json!(7)).unwrap(), Usd(7_000_000));
        let refused = serde_json::from_value::<Usd>(json!(1e300)).unwrap_err();
        assert_eq!(refused.to_string(), "amount out of range");
    }

    #[test]
    fn a_share_is_the_nearest_to_the_exact_one() {
        let share = |part, whole| Usd::from_micros(part).share_of(Usd::from_micros(whole));
        // In dollars 0.3 / 3 is less than 0.1.
        let found =
            [(300_000, 3_000_000), (7, 10), (2, 1), (1, 0), (1, -1)].map(|(part, whole)| share(part, whole));
        assert_eq!(json!(found), json!([0.1, 0.7, 2.0, 0.0, 0.0]));
    }

    #[test]
    fn a_sum_past_the_largest_amount_is_none() {
        let one = Usd::from_micros(1);
        assert_eq!(Usd::MAX.checked_add(one), None);
        assert_eq!((Usd::MAX - one).checked_add(one), Some(Usd::MAX));
    }

    proptest! {
        #[test]
        fn every_amount_survives_being_written(micros in -Usd::MAX.micros()..=Usd::MAX.micros()) {
            let amount = Usd::from_micros(micros);
            let written = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<Usd>(&written).unwrap(), amount);
        }

        #[test]
        fn an_amount_is_never_rounded_down(dollars in 0.0..1e6_f64) {
            let amount = Usd::from_dollars(dollars).unwrap();
            prop_assert!(amount.dollars() >= dollars - 1e-8);
            prop_assert!(amount.dollars() - dollars <= 1.1e-6);
        }
    }
}

//! What budgets have to do, in as few words as possible: whole cents, one thing after the other, no rows and no lanes.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{DAY, MONDAY, NOW, T0};

/// How long what is set aside stays so.
pub(super) const TTL: i64 = 600_000;

/// Days of the months from April 2026 on.
const MONTHS: [i64; 12] = [30, 31, 30, 31, 31, 30, 31, 30, 31, 31, 28, 31];

/// Amounts in hundredths of a dollar.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    period: &'static str,
    ceiling: i64,
    made: i64,
    start: i64,
    end: i64,
    spent: i64,
    /// In all periods.
    ever: i64,
    /// How many spends made that up.
    spends: u64,
    records: HashSet<u8>,
    /// Id, amount, end.
    held: Vec<(String, i64, i64)>,
    enforced: bool,
    paused: bool,
    /// Whom, until when.
    exempt: Vec<(&'static str, i64)>,
    /// Id, percent, start of the period in which it fired.
    alerts: Vec<(String, i64, Option<i64>)>,
}

/// All budgets, oldest first.
pub(super) struct Model {
    pub(super) now: i64,
    pub(super) books: Vec<Book>,
    /// What callbacks are called with.
    pub(super) calls: Vec<Value>,
}

/// Another term of a budget.
#[derive(Debug, Clone)]
pub(super) enum Term {
    Ceiling(i64),
    Period(&'static str),
    Enforced(bool),
    Paused(bool),
}

pub(super) fn usd(cents: i64) -> Value {
    if cents % 100 == 0 {
        json!(cents / 100)
    } else {
        json!(dollars(cents))
    }
}

fn dollars(cents: i64) -> f64 {
    f64::from(i32::try_from(cents).unwrap()) / 100.0
}

fn days(ms: i64) -> f64 {
    f64::from(u32::try_from(ms).unwrap()) / f64::from(u32::try_from(DAY).unwrap())
}

fn bounds(period: &str, now: i64) -> (i64, i64) {
    let within = |start: i64, days: i64| {
        let begun = (now - start).div_euclid(days * DAY);
        (start + begun * days * DAY, start + (begun + 1) * days * DAY)
    };
    match period {
        "day" => within(T0, 1),
        "week" => within(MONDAY, 7),
        _ => {
            let mut start = T0 - 29 * DAY;
            for days in MONTHS {
                if now < start + days * DAY {
                    return (start, start + days * DAY);
                }
                start += days * DAY;
            }
            panic!("a history is shorter than a year")
        }
    }
}

impl Book {
    pub(super) fn new(
        id: String,
        parent: Option<String>,
        period: &'static str,
        ceiling: i64,
        now: i64,
    ) -> Self {
        let (start, end) = bounds(period, now);
        Self {
            id,
            parent,
            period,
            ceiling,
            made: now,
            start,
            end,
            spent: 0,
            ever: 0,
            spends: 0,
            records: HashSet::new(),
            held: Vec::new(),
            enforced: true,
            paused: false,
            exempt: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// As it is shown, without what tells when it was stored.
    pub(super) fn shown(&self) -> Value {
        let alerts = self.alerts.iter().map(|(id, percent, fired)| {
            let mut alert = json!({
                "alert_id": id, "threshold_pct": dollars(*percent), "callback_function_id": "on::alert",
            });
            if let Some(start) = fired {
                alert["last_fired_period_start"] = json!(start);
            }
            alert
        });
        let exempt = self.exempt.iter();
        let exempt =
            exempt.map(|(who, until)| json!({"principal_id": who, "reason": "r", "expires_at": until}));
        let mut shown = json!({
            "id": self.id, "ceiling_usd": usd(self.ceiling), "period": self.period, "spent_usd": usd(self.spent),
            "period_start_at": self.start, "period_resets_at": self.end, "enforced": self.enforced,
            "paused": self.paused, "created_at": self.made, "alerts": alerts.collect::<Vec<_>>(),
            "exemptions": exempt.collect::<Vec<_>>(),
        });
        if let Some(parent) = &self.parent {
            shown["parent_id"] = json!(parent);
        }
        if !self.held.is_empty() {
            let held = self.held.iter();
            let held = held.map(|(id, amount, until)| {
                json!({"reservation_id": id, "amount_usd": usd(*amount), "expires_at": until})
            });
            shown["reservations"] = held.collect();
        }
        shown
    }

    fn held(&self) -> i64 {
        self.held.iter().map(|(_, amount, _)| amount).sum()
    }

    fn unlimited(&self, who: Option<&str>) -> Option<&'static str> {
        let is_exempt = |who| self.exempt.iter().any(|(exempt, _)| Some(*exempt) == who);
        match (self.paused, self.enforced) {
            (true, _) => Some("paused"),
            (_, false) => Some("not_enforced"),
            _ => (who.is_some() && is_exempt(who)).then_some("exempt"),
        }
    }

    fn begin(&mut self, start: i64, end: i64) {
        (self.start, self.end, self.spent) = (start, end, 0);
        for alert in &mut self.alerts {
            alert.2 = None;
        }
    }

    fn fire(&mut self, calls: &mut Vec<Value>) {
        for (alert, percent, fired) in &mut self.alerts {
            if fired.is_none() && self.spent * 100 >= *percent * self.ceiling {
                *fired = Some(self.start);
                calls.push(json!({
                    "alert_id": alert, "budget_id": self.id, "spent_usd": usd(self.spent),
                    "ceiling_usd": usd(self.ceiling), "threshold_pct": dollars(*percent),
                }));
            }
        }
    }

    fn numbers(&self) -> Value {
        json!({"spent_usd": usd(self.spent), "remaining_usd": usd(self.ceiling - self.spent)})
    }
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            now: NOW,
            books: Vec::new(),
            calls: Vec::new(),
        }
    }

    pub(super) fn wait(&mut self, ms: i64) {
        self.now += ms;
        let now = self.now;
        for book in &mut self.books {
            book.held.retain(|(_, _, until)| *until > now);
            book.exempt.retain(|(_, until)| *until > now);
            if now >= book.end {
                let (start, end) = bounds(book.period, now);
                book.begin(start, end);
                book.records.clear();
            }
        }
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.books.iter().position(|book| book.id == id)
    }

    /// The budget and those above it.
    pub(super) fn chain(&self, id: &str) -> Vec<usize> {
        let mut chain: Vec<usize> = self.place(id).into_iter().collect();
        while let Some(above) = chain.last().and_then(|last| self.books[*last].parent.as_deref()) {
            chain.extend(self.place(above));
        }
        chain
    }

    fn own(&mut self, id: &str) -> &mut Book {
        let place = self.place(id).unwrap();
        &mut self.books[place]
    }

    /// The answer, and the levels at which the estimate would be set aside.
    pub(super) fn check(&self, id: &str, estimate: i64, who: Option<&str>) -> (Value, Vec<usize>) {
        let chain = self.chain(id);
        let own = &self.books[chain[0]];
        let limiting = chain.iter().copied();
        let limiting: Vec<usize> = limiting
            .filter(|level| self.books[*level].unlimited(who).is_none())
            .collect();
        let exceeded = limiting.iter().find(|level| {
            let book = &self.books[**level];
            book.ceiling - book.spent - book.held() < estimate
        });
        let mut answer =
            json!({"allowed": exceeded.is_none(), "remaining_usd": usd(own.ceiling - own.spent)});
        if let Some(level) = exceeded {
            answer["reason"] = json!("ceiling_exceeded");
            if *level != chain[0] {
                answer["exceeded_budget_id"] = json!(self.books[*level].id);
            }
        } else if let Some(reason) = own.unlimited(who) {
            answer["reason"] = json!(reason);
        }
        (answer, limiting)
    }

    pub(super) fn hold(&mut self, levels: &[usize], reservation: &str, amount: i64) {
        for level in levels {
            self.books[*level]
                .held
                .push((reservation.to_owned(), amount, self.now + TTL));
        }
    }

    /// All that is set aside in one budget.
    pub(super) fn held(&self, id: &str) -> Value {
        usd(self.place(id).map_or(0, |place| self.books[place].held()))
    }

    pub(super) fn record(
        &mut self,
        id: &str,
        cost: i64,
        reservation: Option<&str>,
        record: Option<u8>,
    ) -> Value {
        let chain = self.chain(id);
        for level in &chain {
            let book = &mut self.books[*level];
            book.held
                .retain(|(held, _, _)| Some(held.as_str()) != reservation);
            if record.is_some_and(|record| !book.records.insert(record)) {
                continue;
            }
            book.spent += cost;
            book.ever += cost;
            book.spends += 1;
            book.fire(&mut self.calls);
        }
        self.books[chain[0]].numbers()
    }

    pub(super) fn reset(&mut self, id: &str) -> Value {
        let book = self.own(id);
        let previous = book.spent;
        book.begin(book.start, book.end);
        json!({"budget_id": id, "previous_spent_usd": usd(previous)})
    }

    pub(super) fn set(&mut self, id: &str, term: &Term) {
        let (now, place) = (self.now, self.place(id).unwrap());
        let book = &mut self.books[place];
        match *term {
            Term::Ceiling(ceiling) => {
                book.ceiling = ceiling;
                book.fire(&mut self.calls);
            }
            Term::Period(period) if period != book.period => {
                let (start, end) = bounds(period, now);
                book.period = period;
                book.begin(start, end);
                book.records.clear();
            }
            Term::Period(_) => {}
            Term::Enforced(enforced) => book.enforced = enforced,
            Term::Paused(paused) => book.paused = paused,
        }
    }

    pub(super) fn exempt(&mut self, id: &str, who: &'static str) -> Value {
        let until = self.now + DAY;
        let book = self.own(id);
        book.exempt.retain(|(exempt, _)| *exempt != who);
        book.exempt.push((who, until));
        json!({"budget_id": id, "expires_at": until})
    }

    pub(super) fn alert(&mut self, id: &str, alert: String, percent: i64) {
        self.own(id).alerts.push((alert, percent, None));
    }

    pub(super) fn delete(&mut self, id: &str) {
        let gone = self.books.remove(self.place(id).unwrap());
        for book in &mut self.books {
            if book.parent.as_deref() == Some(id) {
                book.parent.clone_from(&gone.parent);
            }
        }
    }

    /// Newest first, then by id.
    pub(super) fn list(&self) -> Vec<Value> {
        let mut books: Vec<&Book> = self.books.iter().collect();
        books.sort_by_key(|book| (-book.made, book.id.clone()));
        books.into_iter().map(Book::shown).collect()
    }

    /// Spent in all periods, and how often.
    pub(super) fn usage(&self, id: &str) -> (Value, u64) {
        let book = &self.books[self.place(id).unwrap()];
        (usd(book.ever), book.spends)
    }

    pub(super) fn forecast(&self, id: &str) -> Value {
        let book = &self.books[self.place(id).unwrap()];
        let rate = dollars(book.spent) / days(self.now - book.start).max(1.0);
        let left = dollars(book.ceiling - book.spent);
        let breach = (rate > 0.0 && left > 0.0).then(|| left / rate);
        json!({
            "projected_month_usd": rate * 30.0, "on_track": rate * days(book.end - self.now) <= left,
            "days_until_breach": breach,
        })
    }
}

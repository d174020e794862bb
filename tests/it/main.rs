#[cfg(test)]
mod admin;
#[cfg(test)]
mod config;
mod support;

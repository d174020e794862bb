mod admin;
mod config;
mod support;

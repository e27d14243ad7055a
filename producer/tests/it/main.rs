//! The producer's invocations, on S3, SQS, ECS and SNS in an emulator.

#![expect(clippy::unwrap_used, reason = "tests")]

mod plan;
mod settle;
mod system;

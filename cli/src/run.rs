//! `bottles run`: a deployed system plans now, instead of at its time.

use common::invocation::{Event, PlanAnswer, PlanRequest};

use crate::args::RunOptions;
use crate::deployed::Named;
use crate::output::{self, Exit, line};
use crate::{deployed, place, plan};

pub(crate) async fn run(options: RunOptions) -> anyhow::Result<Exit> {
    let RunOptions { json, selection, stack, function } = options;
    let named = Named::new(&stack).with_function(&function);
    let request = PlanRequest { selection: place::overriding(&selection)?, ..PlanRequest::default() };
    let answer: PlanAnswer = deployed::invoke(&named, &Event::Plan(Box::new(request))).await?;
    if json {
        output::json(&answer)?;
    } else {
        plan::describe_queued(&answer.report);
        if let Some(tasks) = answer.tasks
            && tasks.after > tasks.before
        {
            line(format_args!("Tasks      {} asked for, {} before", tasks.after, tasks.before));
        }
    }
    Ok(plan::exit(&answer.report))
}

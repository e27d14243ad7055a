//! `bottles run`: a deployed system plans now, instead of at its time.

use common::invocation::{Event, PlanAnswer, PlanRequest};
use common::selection::SelectionFile;

use crate::args::{RunOptions, SelectionOptions};
use crate::output::{self, Exit, line};
use crate::{deployed, place, plan};

pub(crate) async fn run(options: RunOptions) -> anyhow::Result<Exit> {
    let RunOptions { json, selection, place, stack } = options;
    let request = PlanRequest { selection: overriding(&selection)?, ..PlanRequest::default() };
    let answer: PlanAnswer = deployed::invoke(&place, &stack, &Event::Plan(request)).await?;
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

/// The selection of the options, if they make one; else the deployed one holds.
pub(crate) fn overriding(options: &SelectionOptions) -> anyhow::Result<Option<SelectionFile>> {
    let SelectionOptions { selection, formula, tag, no_dependencies } = options;
    let is_given = selection.is_some() || !formula.is_empty() || !tag.is_empty() || *no_dependencies;
    if is_given { Ok(Some(place::selection(options)?.file().clone())) } else { Ok(None) }
}

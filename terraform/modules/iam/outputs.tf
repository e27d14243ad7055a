output "role_arns" {
  description = "The roles' ARNs: producer, consumer, task, task-execution, scheduler, and alarms where there is one. Each comes with its policy attached."
  value       = { for name, role in aws_iam_role.this : name => role.arn }

  # Who takes a role before its policy is there fails: Lambda tests its role
  # when a mapping is made.
  depends_on = [aws_iam_role_policy.this]
}

output "statement_names" {
  description = "The names of the statements of each role's policy."
  value       = { for name, role in local.roles : name => [for statement in role.statements : statement.Sid] }
}

# What may get in and out, and what the flow logs' role may do.

mock_provider "aws" {
  # A flow log takes nothing but well-formed ARNs.
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/bottles-test-flow-logs" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/vpc-flow-logs/bottles-test" }
  }
}

variables {
  name                 = "bottles-test"
  context              = { partition = "aws", region = "eu-central-1", account_id = "123456789012" }
  availability_zones   = ["eu-central-1a", "eu-central-1b"]
  public_subnet_cidrs  = ["10.0.0.0/24", "10.0.1.0/24"]
  private_subnet_cidrs = ["10.0.2.0/24", "10.0.3.0/24"]
  s3_bucket_arns       = ["arn:aws:s3:::team-bottles"]
  interface_endpoints  = ["sqs"]
}

run "tasks_let_nothing_in_and_only_https_out" {
  command = apply

  assert {
    condition = [
      for rule in aws_vpc_security_group_egress_rule.tasks_https :
      "${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${rule.cidr_ipv4} ${rule.security_group_id == aws_security_group.tasks.id}"
    ] == ["tcp 443-443 0.0.0.0/0 true"] && output.task_security_group_id == aws_security_group.tasks.id
    error_message = "Tasks go out by TCP 443, to anywhere."
  }

  assert {
    condition = alltrue([
      for group in [aws_security_group.tasks, aws_security_group.endpoints[0]] :
      length(group.ingress) == 0 && length(group.egress) == 0 && group.vpc_id == aws_vpc.this.id
    ])
    error_message = "Rules are resources of their own: inline ones would undo them."
  }

  # A rule that somebody adds is a resource that no assertion above names, and so the text is asked how many there are.
  assert {
    condition = (
      length(regexall("resource \"aws_vpc_security_group_ingress_rule\"", file("${path.module}/main.tf"))) == 1 &&
      length(regexall("resource \"aws_vpc_security_group_egress_rule\"", file("${path.module}/main.tf"))) == 1 &&
      length(regexall("resource \"aws_security_group_rule\"", file("${path.module}/main.tf"))) == 0 &&
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].security_group_id != aws_security_group.tasks.id
    )
    error_message = "The one ingress rule is the endpoints', and the one egress rule the tasks'."
  }

  assert {
    condition = (
      aws_default_security_group.this.vpc_id == aws_vpc.this.id &&
      length(aws_default_security_group.this.ingress) == 0 &&
      length(aws_default_security_group.this.egress) == 0
    )
    error_message = "The default security group is empty."
  }
}

run "no_flow_logs_by_default" {
  command = plan

  assert {
    condition = (
      length(aws_flow_log.this) == 0 && length(aws_cloudwatch_log_group.flow_logs) == 0 &&
      length(aws_iam_role.flow_logs) == 0 && length(aws_iam_role_policy.flow_logs) == 0 &&
      output.flow_log_group_name == null
    )
    error_message = "Flow logs cost, and are made where they are asked for only."
  }
}

run "flow_logs_write_to_their_group_alone" {
  command = apply

  variables {
    enable_flow_logs        = true
    flow_log_retention_days = 7
  }

  assert {
    condition = (
      aws_flow_log.this[0].vpc_id == aws_vpc.this.id &&
      aws_flow_log.this[0].traffic_type == "ALL" &&
      aws_flow_log.this[0].iam_role_arn == aws_iam_role.flow_logs[0].arn &&
      aws_flow_log.this[0].log_destination == aws_cloudwatch_log_group.flow_logs[0].arn &&
      aws_cloudwatch_log_group.flow_logs[0].retention_in_days == 7 &&
      output.flow_log_group_name == aws_cloudwatch_log_group.flow_logs[0].name
    )
    error_message = "The VPC's connections, all of them, are logged to the group, which forgets them in time."
  }

  assert {
    condition = (
      aws_iam_role_policy.flow_logs[0].role == aws_iam_role.flow_logs[0].id &&
      alltrue(flatten([
        for statement in jsondecode(aws_iam_role_policy.flow_logs[0].policy).Statement : [
          for resource in statement.Resource :
          contains([
            "arn:aws:logs:eu-central-1:123456789012:log-group:${aws_cloudwatch_log_group.flow_logs[0].name}",
            "arn:aws:logs:eu-central-1:123456789012:log-group:${aws_cloudwatch_log_group.flow_logs[0].name}:*",
          ], resource)
        ]
      ])) &&
      alltrue(flatten([
        for statement in jsondecode(aws_iam_role_policy.flow_logs[0].policy).Statement :
        [for action in statement.Action : !strcontains(action, "*") && action != "logs:CreateLogGroup"]
      ]))
    )
    error_message = "The role writes to its own log group, and can't make one."
  }

  assert {
    condition = (
      length(jsondecode(aws_iam_role.flow_logs[0].assume_role_policy).Statement) == 1 &&
      jsondecode(aws_iam_role.flow_logs[0].assume_role_policy).Statement[0].Principal == { Service = "vpc-flow-logs.amazonaws.com" } &&
      jsondecode(aws_iam_role.flow_logs[0].assume_role_policy).Statement[0].Condition == {
        StringEquals = { "aws:SourceAccount" = "123456789012" }
        ArnLike      = { "aws:SourceArn" = "arn:aws:ec2:eu-central-1:123456789012:vpc-flow-log/*" }
      }
    )
    error_message = "Only the flow logs service takes the role, and only for this account and region."
  }
}

run "a_proxy_has_its_port" {
  command = plan

  variables {
    task_egress_ports = [443, 8443]
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.tasks_https) == ["443", "8443"]
    error_message = "Tasks reach the proxy, and nothing else besides."
  }
}

run "tasks_reach_aws" {
  command = plan

  variables {
    task_egress_ports = [8443]
  }

  expect_failures = [var.task_egress_ports]
}

# Endpoints: S3's on every route table and for the mirror's buckets only, the others where they are asked for.

mock_provider "aws" {}

variables {
  name                 = "bottles-test"
  context              = { partition = "aws-us-gov", region = "us-gov-west-1", account_id = "123456789012" }
  availability_zones   = ["us-gov-west-1a", "us-gov-west-1b"]
  public_subnet_cidrs  = ["10.0.0.0/24", "10.0.1.0/24"]
  private_subnet_cidrs = ["10.0.2.0/24", "10.0.3.0/24"]
  s3_bucket_arns       = ["arn:aws-us-gov:s3:::team-bottles", "arn:aws-us-gov:s3:::team-selection"]
}

run "s3_is_on_every_route_table_without_nat" {
  command = apply

  assert {
    condition = (
      aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" &&
      aws_vpc_endpoint.s3.service_name == "com.amazonaws.us-gov-west-1.s3" &&
      output.s3_gateway_endpoint_id == aws_vpc_endpoint.s3.id
    )
    error_message = "S3 is reached by a gateway endpoint, which costs nothing."
  }

  assert {
    condition = (
      length(aws_route_table.private) == 2 &&
      aws_vpc_endpoint.s3.route_table_ids == toset(concat([aws_route_table.public.id], values(aws_route_table.private)[*].id))
    )
    error_message = "The S3 endpoint is on every route table, so that bottles never pay NAT."
  }
}

run "s3_is_on_every_route_table_with_nat" {
  command = apply

  variables {
    nat = "per-zone"
  }

  assert {
    condition = (
      length(aws_route_table.private) == 2 &&
      aws_vpc_endpoint.s3.route_table_ids == toset(concat([aws_route_table.public.id], values(aws_route_table.private)[*].id))
    )
    error_message = "The S3 endpoint is on every route table, so that bottles never pay NAT."
  }
}

run "the_s3_endpoint_leads_to_the_named_buckets_only" {
  command = plan

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_vpc_endpoint.s3.policy).Statement :
      statement.Effect == "Allow" && !contains(keys(statement), "NotResource") && !contains(keys(statement), "NotAction")
    ])
    error_message = "The policy is a list of what is let through."
  }

  assert {
    condition = (
      { for statement in jsondecode(aws_vpc_endpoint.s3.policy).Statement : statement.Sid => statement.Resource } == {
        ListTheBuckets           = ["arn:aws-us-gov:s3:::team-bottles", "arn:aws-us-gov:s3:::team-selection"]
        ReadAndWriteTheirObjects = ["arn:aws-us-gov:s3:::team-bottles/*", "arn:aws-us-gov:s3:::team-selection/*"]
        ReadLayersOfImages       = ["arn:aws-us-gov:s3:::prod-us-gov-west-1-starport-layer-bucket/*"]
      }
    )
    error_message = "The endpoint leads to the named buckets and to the region's ECR layers, and nowhere else."
  }

  assert {
    condition = (
      { for statement in jsondecode(aws_vpc_endpoint.s3.policy).Statement : statement.Sid => statement.Action } == {
        ListTheBuckets           = ["s3:ListBucket"]
        ReadAndWriteTheirObjects = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
        ReadLayersOfImages       = ["s3:GetObject"]
      }
    )
    error_message = "Tasks list, read and write; layers of images are only read; nothing is deleted."
  }
}

run "no_interface_endpoint_unless_asked_for" {
  command = plan

  assert {
    condition = (
      length(aws_vpc_endpoint.interface) == 0 &&
      length(aws_security_group.endpoints) == 0 &&
      length(aws_vpc_security_group_ingress_rule.endpoints_from_tasks) == 0
    )
    error_message = "Interface endpoints are billed by the hour: none by default."
  }
}

run "interface_endpoints_are_private_and_for_tasks_only" {
  command = apply

  variables {
    interface_endpoints = ["ecr.api", "ecr.dkr", "logs", "sqs", "secretsmanager"]
  }

  assert {
    condition = toset([for endpoint in aws_vpc_endpoint.interface : endpoint.service_name]) == toset([
      "com.amazonaws.us-gov-west-1.ecr.api",
      "com.amazonaws.us-gov-west-1.ecr.dkr",
      "com.amazonaws.us-gov-west-1.logs",
      "com.amazonaws.us-gov-west-1.sqs",
      "com.amazonaws.us-gov-west-1.secretsmanager",
    ])
    error_message = "There is one endpoint for each service that was asked for."
  }

  assert {
    condition = alltrue([
      for endpoint in aws_vpc_endpoint.interface :
      endpoint.vpc_endpoint_type == "Interface" &&
      endpoint.private_dns_enabled &&
      endpoint.subnet_ids == toset(output.private_subnet_ids) &&
      endpoint.security_group_ids == toset([aws_security_group.endpoints[0].id])
    ])
    error_message = "Endpoints are in the private subnets, found by the services' usual names, and have their own security group."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].security_group_id == aws_security_group.endpoints[0].id &&
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].referenced_security_group_id == aws_security_group.tasks.id &&
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].cidr_ipv4 == null &&
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].ip_protocol == "tcp" &&
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].from_port == 443 &&
      aws_vpc_security_group_ingress_rule.endpoints_from_tasks[0].to_port == 443
    )
    error_message = "Endpoints take HTTPS from the tasks' security group, and from nobody else."
  }
}

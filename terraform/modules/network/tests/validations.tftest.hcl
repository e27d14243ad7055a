# What the variables refuse. Each run differs from valid input in one thing.

mock_provider "aws" {}

variables {
  name                 = "bottles-test"
  context              = { partition = "aws", region = "eu-central-1", account_id = "123456789012" }
  availability_zones   = ["eu-central-1a", "eu-central-1b"]
  public_subnet_cidrs  = ["10.0.0.0/24", "10.0.1.0/24"]
  private_subnet_cidrs = ["10.0.2.0/24", "10.0.3.0/24"]
  s3_bucket_arns       = ["arn:aws:s3:::team-bottles"]
}

run "touching_ranges_of_any_width_are_taken" {
  command = plan

  variables {
    vpc_cidr             = "10.20.0.0/20"
    public_subnet_cidrs  = ["10.20.0.0/28", "10.20.0.16/28"]
    private_subnet_cidrs = ["10.20.8.0/22", "10.20.12.0/22"]
  }

  assert {
    condition     = length(aws_subnet.public) == 2 && length(aws_subnet.private) == 2
    error_message = "Ranges that lie side by side within the VPC are fine."
  }
}

run "a_name_with_capitals_is_refused" {
  command = plan

  variables {
    name = "Bottles"
  }

  expect_failures = [var.name]
}

run "a_region_that_is_a_zone_is_refused" {
  command = plan

  variables {
    context = { partition = "aws", region = "eu-central-1a", account_id = "123456789012" }
  }

  expect_failures = [var.context]
}

run "a_short_account_id_is_refused" {
  command = plan

  variables {
    context = { partition = "aws", region = "eu-central-1", account_id = "12345678901" }
  }

  expect_failures = [var.context]
}

run "an_unknown_partition_is_refused" {
  command = plan

  variables {
    context = { partition = "arn:aws", region = "eu-central-1", account_id = "123456789012" }
  }

  expect_failures = [var.context]
}

run "a_vpc_wider_than_aws_allows_is_refused" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/15"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_vpc_with_host_bits_is_refused" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.1/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "an_ipv6_vpc_is_refused" {
  command = plan

  variables {
    vpc_cidr = "fd00::/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "one_zone_is_refused" {
  command = plan

  variables {
    availability_zones   = ["eu-central-1a"]
    public_subnet_cidrs  = ["10.0.0.0/24"]
    private_subnet_cidrs = ["10.0.2.0/24"]
  }

  expect_failures = [var.availability_zones]
}

run "a_zone_named_twice_is_refused" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "a_zone_of_another_region_is_refused" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-west-1b"]
  }

  expect_failures = [var.availability_zones]
}

run "a_zone_without_public_range_is_refused" {
  command = plan

  variables {
    public_subnet_cidrs = ["10.0.0.0/24"]
  }

  expect_failures = [var.public_subnet_cidrs]
}

run "more_public_ranges_than_zones_are_refused" {
  command = plan

  variables {
    public_subnet_cidrs = ["10.0.0.0/24", "10.0.1.0/24", "10.0.4.0/24"]
  }

  expect_failures = [var.public_subnet_cidrs]
}

run "a_public_range_that_is_none_is_refused" {
  command = plan

  variables {
    public_subnet_cidrs = ["10.0.0.0/24", "10.0.300.0/24"]
  }

  expect_failures = [var.public_subnet_cidrs]
}

run "a_public_range_with_host_bits_is_refused" {
  command = plan

  variables {
    public_subnet_cidrs = ["10.0.0.0/24", "10.0.1.5/24"]
  }

  expect_failures = [var.public_subnet_cidrs]
}

run "a_public_range_outside_of_the_vpc_is_refused" {
  command = plan

  variables {
    public_subnet_cidrs = ["10.0.0.0/24", "10.1.1.0/24"]
  }

  expect_failures = [var.public_subnet_cidrs]
}

run "a_public_range_wider_than_the_vpc_is_refused" {
  command = plan

  variables {
    vpc_cidr             = "10.0.0.0/20"
    public_subnet_cidrs  = ["10.0.0.0/19", "10.0.8.0/24"]
    private_subnet_cidrs = ["10.0.9.0/24", "10.0.10.0/24"]
  }

  expect_failures = [var.public_subnet_cidrs]
}

run "a_zone_without_private_range_is_refused" {
  command = plan

  variables {
    private_subnet_cidrs = ["10.0.2.0/24"]
  }

  expect_failures = [var.private_subnet_cidrs]
}

run "a_private_range_smaller_than_aws_allows_is_refused" {
  command = plan

  variables {
    private_subnet_cidrs = ["10.0.2.0/24", "10.0.3.0/29"]
  }

  expect_failures = [var.private_subnet_cidrs]
}

run "a_private_range_outside_of_the_vpc_is_refused" {
  command = plan

  variables {
    private_subnet_cidrs = ["10.0.2.0/24", "192.168.0.0/24"]
  }

  expect_failures = [var.private_subnet_cidrs]
}

run "overlapping_ranges_are_refused" {
  command = plan

  variables {
    private_subnet_cidrs = ["10.0.2.0/24", "10.0.0.0/23"]
  }

  expect_failures = [var.private_subnet_cidrs]
}

run "the_same_range_twice_is_refused" {
  command = plan

  variables {
    private_subnet_cidrs = ["10.0.2.0/24", "10.0.2.0/24"]
  }

  expect_failures = [var.private_subnet_cidrs]
}

run "another_nat_is_refused" {
  command = plan

  variables {
    nat = "instance"
  }

  expect_failures = [var.nat]
}

run "an_endpoint_that_tasks_have_no_use_for_is_refused" {
  command = plan

  variables {
    interface_endpoints = ["sqs", "ec2"]
  }

  expect_failures = [var.interface_endpoints]
}

run "no_bucket_is_refused" {
  command = plan

  variables {
    s3_bucket_arns = []
  }

  expect_failures = [var.s3_bucket_arns]
}

run "a_wildcard_for_a_bucket_is_refused" {
  command = plan

  variables {
    s3_bucket_arns = ["arn:aws:s3:::team-*"]
  }

  expect_failures = [var.s3_bucket_arns]
}

run "a_key_for_a_bucket_is_refused" {
  command = plan

  variables {
    s3_bucket_arns = ["arn:aws:s3:::team-bottles/*"]
  }

  expect_failures = [var.s3_bucket_arns]
}

run "a_retention_that_aws_does_not_know_is_refused" {
  command = plan

  variables {
    flow_log_retention_days = 31
  }

  expect_failures = [var.flow_log_retention_days]
}

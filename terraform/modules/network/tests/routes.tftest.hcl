# Where tasks run, and which way their bytes go, for each choice of nat. Ids are known only after an apply, which
# the mocked provider makes without a network.

mock_provider "aws" {}

variables {
  name                 = "bottles-test"
  context              = { partition = "aws", region = "eu-central-1", account_id = "123456789012" }
  availability_zones   = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  public_subnet_cidrs  = ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]
  private_subnet_cidrs = ["10.0.128.0/20", "10.0.144.0/20", "10.0.160.0/20"]
  s3_bucket_arns       = ["arn:aws:s3:::team-bottles"]
}

run "every_zone_has_its_subnets" {
  command = apply

  assert {
    condition     = aws_vpc.this.enable_dns_support && aws_vpc.this.enable_dns_hostnames
    error_message = "Private DNS of endpoints needs both DNS settings of the VPC."
  }

  assert {
    condition = (
      { for zone, subnet in aws_subnet.public : subnet.availability_zone => subnet.cidr_block } == {
        "eu-central-1a" = "10.0.0.0/24", "eu-central-1b" = "10.0.1.0/24", "eu-central-1c" = "10.0.2.0/24"
      } &&
      { for zone, subnet in aws_subnet.private : subnet.availability_zone => subnet.cidr_block } == {
        "eu-central-1a" = "10.0.128.0/20", "eu-central-1b" = "10.0.144.0/20", "eu-central-1c" = "10.0.160.0/20"
      }
    )
    error_message = "Each zone has one public and one private subnet, with the ranges in the zones' order."
  }

  assert {
    condition = alltrue([
      for subnet in concat(values(aws_subnet.public), values(aws_subnet.private)) :
      subnet.map_public_ip_on_launch == false && subnet.vpc_id == aws_vpc.this.id
    ])
    error_message = "No subnet gives public addresses to whatever starts in it."
  }

  assert {
    condition = (
      alltrue([for zone, link in aws_route_table_association.public :
      link.subnet_id == aws_subnet.public[zone].id && link.route_table_id == aws_route_table.public.id]) &&
      alltrue([for zone, link in aws_route_table_association.private :
      link.subnet_id == aws_subnet.private[zone].id && link.route_table_id == aws_route_table.private[zone].id]) &&
      length(aws_route_table_association.public) == 3 && length(aws_route_table_association.private) == 3
    )
    error_message = "Public subnets share the public route table, and each private subnet has its own zone's."
  }

  assert {
    condition = (
      aws_route.public_internet.route_table_id == aws_route_table.public.id &&
      aws_route.public_internet.destination_cidr_block == "0.0.0.0/0" &&
      aws_route.public_internet.gateway_id == aws_internet_gateway.this.id
    )
    error_message = "Public subnets reach the internet by the internet gateway."
  }

  assert {
    condition = (
      output.public_subnet_ids == [for zone in var.availability_zones : aws_subnet.public[zone].id] &&
      output.private_subnet_ids == [for zone in var.availability_zones : aws_subnet.private[zone].id]
    )
    error_message = "Subnets' ids come out in the zones' order."
  }
}

run "without_nat_tasks_run_in_public_subnets" {
  command = apply

  variables {
    nat = "none"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_eip.nat) == 0 && length(output.nat_gateway_public_ips) == 0 && length(output.nat_gateway_ids) == 0
    error_message = "Without NAT nothing is billed for it: no gateway, no address."
  }

  assert {
    condition     = length(aws_route.private_nat) == 0
    error_message = "Without NAT private subnets have no way to the internet."
  }

  assert {
    condition     = output.task_subnet_ids == output.public_subnet_ids && output.task_assign_public_ip == true
    error_message = "Without NAT tasks run in the public subnets with a public address each."
  }
}

run "a_single_nat_serves_all_zones" {
  command = apply

  variables {
    nat = "single"
  }

  assert {
    condition = (
      toset(keys(aws_nat_gateway.this)) == toset(["eu-central-1a"]) &&
      aws_nat_gateway.this["eu-central-1a"].subnet_id == aws_subnet.public["eu-central-1a"].id &&
      aws_nat_gateway.this["eu-central-1a"].allocation_id == aws_eip.nat["eu-central-1a"].id
    )
    error_message = "There is one NAT gateway, in the first zone's public subnet."
  }

  assert {
    condition = (
      length(aws_route.private_nat) == 3 &&
      alltrue([for zone, route in aws_route.private_nat :
        route.route_table_id == aws_route_table.private[zone].id &&
        route.destination_cidr_block == "0.0.0.0/0" &&
      route.nat_gateway_id == aws_nat_gateway.this["eu-central-1a"].id])
    )
    error_message = "All private subnets go out by the one NAT gateway."
  }

  assert {
    condition     = output.task_subnet_ids == output.private_subnet_ids && output.task_assign_public_ip == false
    error_message = "With NAT tasks run in the private subnets, without a public address."
  }

  assert {
    condition     = output.nat_gateway_public_ips == [aws_eip.nat["eu-central-1a"].public_ip]
    error_message = "The NAT gateway's public address is an output."
  }
}

run "each_zone_has_a_nat_of_its_own" {
  command = apply

  variables {
    nat = "per-zone"
  }

  assert {
    condition = (
      length(aws_nat_gateway.this) == 3 && length(aws_eip.nat) == 3 && length(output.nat_gateway_public_ips) == 3 &&
      output.nat_gateway_ids == [for zone in var.availability_zones : aws_nat_gateway.this[zone].id] &&
      alltrue([for zone, gateway in aws_nat_gateway.this :
      gateway.subnet_id == aws_subnet.public[zone].id && gateway.allocation_id == aws_eip.nat[zone].id])
    )
    error_message = "Each zone has a NAT gateway in its public subnet, with an address of its own."
  }

  assert {
    condition = (
      length(aws_route.private_nat) == 3 &&
      alltrue([for zone, route in aws_route.private_nat :
        route.route_table_id == aws_route_table.private[zone].id &&
        route.destination_cidr_block == "0.0.0.0/0" &&
      route.nat_gateway_id == aws_nat_gateway.this[zone].id])
    )
    error_message = "Private subnets go out by their own zone's NAT gateway: a zone's outage stays in it."
  }

  assert {
    condition     = output.task_subnet_ids == output.private_subnet_ids && output.task_assign_public_ip == false
    error_message = "With NAT tasks run in the private subnets, without a public address."
  }
}

# The network of the Fargate tasks, which mirror large bottles. The Lambda functions run outside of any VPC.

locals {
  zones           = toset(var.availability_zones)
  public_subnets  = zipmap(var.availability_zones, var.public_subnet_cidrs)
  private_subnets = zipmap(var.availability_zones, var.private_subnet_cidrs)

  # Zones that have a NAT gateway: none of them, the first, or all.
  nat_zones = var.nat == "per-zone" ? var.availability_zones : slice(var.availability_zones, 0, var.nat == "single" ? 1 : 0)
}

resource "aws_vpc" "this" {
  cidr_block = var.vpc_cidr

  # Private DNS of interface endpoints, and the S3 gateway endpoint with Amazon's resolver, need both:
  # https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-s3.html
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

# The group that AWS gives to whatever names none. Left empty, it lets nothing in and nothing out.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-default" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

# Subnets and routes. All are keyed by zone, so that adding or removing one leaves the others alone.

resource "aws_subnet" "public" {
  for_each = local.public_subnets

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value
  # A task's public address is asked for by its service, in sight, and not given to whatever starts here.
  map_public_ip_on_launch = false

  tags = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_subnet" "private" {
  for_each = local.private_subnets

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = false

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "public_internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = local.zones

  route_table_id = aws_route_table.public.id
  subnet_id      = aws_subnet.public[each.key].id
}

# One table for each zone, so that each zone can have a NAT gateway of its own.
resource "aws_route_table" "private" {
  for_each = local.zones

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route" "private_nat" {
  for_each = var.nat == "none" ? toset([]) : local.zones

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[var.nat == "per-zone" ? each.key : var.availability_zones[0]].id
}

resource "aws_route_table_association" "private" {
  for_each = local.zones

  route_table_id = aws_route_table.private[each.key].id
  subnet_id      = aws_subnet.private[each.key].id
}

resource "aws_eip" "nat" {
  for_each = toset(local.nat_zones)

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.key}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_nat_gateway" "this" {
  for_each = toset(local.nat_zones)

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.key}" }

  # A public NAT gateway has no way out before the VPC has its internet gateway.
  depends_on = [aws_internet_gateway.this]
}

# S3. The gateway endpoint costs nothing and is on every route table, whatever nat says: bottles on their way to the
# bucket must never pay a NAT gateway's price by the GB.

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${var.context.region}.s3"
  route_table_ids   = concat([aws_route_table.public.id], [for table in aws_route_table.private : table.id])

  # An endpoint's policy grants nothing by itself: it narrows what roles and bucket policies allow. "*" is the only
  # principal that a gateway endpoint takes; it stands for whoever comes through the endpoint:
  # https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
  # The actions are all that consumer-ecs has a use for. Deleting isn't among them.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "ListTheBuckets"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:ListBucket"]
        Resource  = var.s3_bucket_arns
      },
      {
        Sid       = "ReadAndWriteTheirObjects"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
        Resource  = [for arn in var.s3_bucket_arns : "${arn}/*"]
      },
      {
        # ECR keeps the layers of images in a bucket of its own, one a region. Without it no task starts:
        # https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
        Sid       = "ReadLayersOfImages"
        Effect    = "Allow"
        Principal = "*"
        Action    = ["s3:GetObject"]
        Resource  = ["arn:${var.context.partition}:s3:::prod-${var.context.region}-starport-layer-bucket/*"]
      },
    ]
  })

  tags = { Name = "${var.name}-s3" }
}

# The tasks' security group. It has no ingress rule: tasks only ever ask, and answers come back without a rule.

resource "aws_security_group" "tasks" {
  #checkov:skip=CKV2_AWS_5:The ECS service, which is not in this module, uses it.
  name        = "${var.name}-tasks"
  description = "Fargate tasks of ${var.name}: HTTPS out, nothing in."
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-tasks" }
}

# To anywhere, since ghcr.io and its CDN have no fixed ranges. S3 and the interface endpoints speak HTTPS too, and so
# this one rule covers them. DNS needs none: security groups don't filter what goes to the VPC's resolver:
# https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html
resource "aws_vpc_security_group_egress_rule" "tasks_https" {
  for_each = toset([for port in var.task_egress_ports : tostring(port)])

  security_group_id = aws_security_group.tasks.id
  description       = each.key == "443" ? "HTTPS to upstream and to AWS." : "To a proxy of upstream."
  ip_protocol       = "tcp"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
  cidr_ipv4         = "0.0.0.0/0"
}

# Interface endpoints. They are billed by the hour for each zone, so none is made unless it is asked for.

resource "aws_security_group" "endpoints" {
  count = length(var.interface_endpoints) > 0 ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "Interface endpoints of ${var.name}: HTTPS in from its tasks, nothing out."
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_from_tasks" {
  count = length(var.interface_endpoints) > 0 ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from the tasks."
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.tasks.id
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.interface_endpoints

  vpc_id             = aws_vpc.this.id
  vpc_endpoint_type  = "Interface"
  service_name       = "com.amazonaws.${var.context.region}.${each.value}"
  subnet_ids         = [for subnet in aws_subnet.private : subnet.id]
  security_group_ids = [aws_security_group.endpoints[0].id]
  # Without it the services' usual names would still lead to their public addresses, past the endpoint.
  private_dns_enabled = true

  tags = { Name = "${var.name}-${each.value}" }
}

# Flow logs, where wanted.

locals {
  flow_log_group     = "/aws/vpc-flow-logs/${var.name}"
  flow_log_group_arn = "arn:${var.context.partition}:logs:${var.context.region}:${var.context.account_id}:log-group:${local.flow_log_group}"
}

resource "aws_cloudwatch_log_group" "flow_logs" {
  #checkov:skip=CKV_AWS_158:Addresses and byte counts of connections are no secret; CloudWatch Logs encrypts them with its own key.
  #checkov:skip=CKV_AWS_338:How long to keep flow logs is flow_log_retention_days' choice; a year of them costs more than it tells.
  count = var.enable_flow_logs ? 1 : 0

  name              = local.flow_log_group
  retention_in_days = var.flow_log_retention_days
}

resource "aws_iam_role" "flow_logs" {
  count = var.enable_flow_logs ? 1 : 0

  name = "${var.name}-flow-logs"

  # The conditions keep the service from using the role for another account's flow logs. The flow log's id is not known
  # before the role is:
  # https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "FlowLogsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = var.context.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:${var.context.partition}:ec2:${var.context.region}:${var.context.account_id}:vpc-flow-log/*" }
      }
    }]
  })
}

resource "aws_iam_role_policy" "flow_logs" {
  count = var.enable_flow_logs ? 1 : 0

  name = "write-flow-logs"
  role = aws_iam_role.flow_logs[0].id

  # CreateLogGroup is left out: the group is made here, and a role that could make it anew would do so without retention.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid    = "WriteToTheGroup"
      Effect = "Allow"
      Action = [
        "logs:CreateLogStream",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
      ]
      Resource = [local.flow_log_group_arn, "${local.flow_log_group_arn}:*"]
    }]
  })
}

resource "aws_flow_log" "this" {
  count = var.enable_flow_logs ? 1 : 0

  vpc_id          = aws_vpc.this.id
  traffic_type    = "ALL"
  log_destination = aws_cloudwatch_log_group.flow_logs[0].arn
  iam_role_arn    = aws_iam_role.flow_logs[0].arn

  tags = { Name = var.name }

  depends_on = [aws_iam_role_policy.flow_logs]
}

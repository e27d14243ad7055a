output "vpc_id" {
  description = "The VPC's id."
  value       = aws_vpc.this.id
}

output "task_subnet_ids" {
  description = "Ids of the subnets that tasks run in, in the order of availability_zones: the public ones where nat is none, else the private ones."
  value       = [for zone in var.availability_zones : var.nat == "none" ? aws_subnet.public[zone].id : aws_subnet.private[zone].id]

  # A task that starts before there is a way to the internet and to ECR can't pull its image.
  depends_on = [
    aws_route.private_nat,
    aws_route.public_internet,
    aws_route_table_association.private,
    aws_route_table_association.public,
    aws_vpc_endpoint.interface,
    aws_vpc_endpoint.s3,
    aws_vpc_security_group_ingress_rule.endpoints_from_tasks,
  ]
}

output "task_assign_public_ip" {
  description = "Whether tasks need a public address: true where nat is none."
  value       = var.nat == "none"
}

output "task_security_group_id" {
  description = "Id of the tasks' security group."
  value       = aws_security_group.tasks.id

  depends_on = [aws_vpc_security_group_egress_rule.tasks_https]
}

output "public_subnet_ids" {
  description = "Ids of the public subnets, in the order of availability_zones."
  value       = [for zone in var.availability_zones : aws_subnet.public[zone].id]
}

output "private_subnet_ids" {
  description = "Ids of the private subnets, in the order of availability_zones."
  value       = [for zone in var.availability_zones : aws_subnet.private[zone].id]
}

output "s3_gateway_endpoint_id" {
  description = "Id of the S3 gateway endpoint, for bucket policies that name it in aws:SourceVpce."
  value       = aws_vpc_endpoint.s3.id
}

output "nat_gateway_public_ips" {
  description = "Public addresses of the NAT gateways, in the order of availability_zones; empty where nat is none."
  value       = [for zone in local.nat_zones : aws_eip.nat[zone].public_ip]
}

output "flow_log_group_name" {
  description = "Name of the flow logs' log group; null where enable_flow_logs is false."
  value       = one(aws_cloudwatch_log_group.flow_logs[*].name)
}

output "nat_gateway_ids" {
  description = "Ids of the NAT gateways, in the order of availability_zones; empty where nat is none."
  value       = [for zone in local.nat_zones : aws_nat_gateway.this[zone].id]
}

locals {
  contract = jsondecode(file("${path.module}/../../contract.json"))
  arn      = "arn:${var.context.partition}:s3:::${var.bucket_name}"

  # A * of a policy crosses slashes: bottles below taps/ are among them.
  flat_objects = var.enable_flat_names ? ["${local.arn}/*.bottle.*tar.gz", "${local.arn}/*/manifests/*"] : []

  # What clients may read. Never _sync/, which says what the mirror is about.
  client_objects = concat(["${local.arn}/api/*", "${local.arn}/v2/*"], local.flat_objects)

  statements = concat(
    [
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.arn, "${local.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      # Roles are not given it; this is for those who may do all, and their
      # scripts. Lifecycle rules are not subject to a bucket's policy.
      {
        Sid       = "NobodyDeletesBottles"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
        Resource  = concat(["${local.arn}/v2/*"], local.flat_objects)
      },
    ],
    # The patterns of flat names could fit a key below _sync/. The program has none
    # such; readers are kept from it all the same.
    [for arn in var.enable_flat_names && var.enable_cdn ? [var.cdn_distribution_arn] : [] : {
      Sid       = "CdnNeverReadsState"
      Effect    = "Deny"
      Principal = { Service = "cloudfront.amazonaws.com" }
      Action    = "s3:GetObject"
      Resource  = ["${local.arn}/_sync/*"]
      Condition = { StringEquals = { "aws:SourceArn" = arn } }
    }],
    # Of those who bring no credentials: the command's user may come the same way.
    [for ids in var.enable_flat_names && length(var.reader_vpc_endpoint_ids) > 0 ? [var.reader_vpc_endpoint_ids] : [] : {
      Sid       = "VpcNeverReadsStateWithoutCredentials"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:GetObject"
      Resource  = ["${local.arn}/_sync/*"]
      Condition = { StringEquals = { "aws:SourceVpce" = ids, "aws:PrincipalType" = "Anonymous" } }
    }],
    [for arn in var.enable_cdn ? [var.cdn_distribution_arn] : [] : {
      Sid       = "CdnReadsWhatIsForClients"
      Effect    = "Allow"
      Principal = { Service = "cloudfront.amazonaws.com" }
      Action    = "s3:GetObject"
      Resource  = local.client_objects
      Condition = { StringEquals = { "aws:SourceArn" = arn } }
    }],
    # Not public in S3's eyes, since the endpoints are named:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
    [for ids in length(var.reader_vpc_endpoint_ids) > 0 ? [var.reader_vpc_endpoint_ids] : [] : {
      Sid       = "VpcReadsWhatIsForClients"
      Effect    = "Allow"
      Principal = "*"
      Action    = "s3:GetObject"
      Resource  = local.client_objects
      Condition = { StringEquals = { "aws:SourceVpce" = ids } }
    }],
  )
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_18:The access log is the user's choice (access_log_bucket): it costs, and goes to a bucket of theirs.
  #checkov:skip=CKV_AWS_144:Replication is the user's choice (enable_replication): what is lost can be mirrored again.
  #checkov:skip=CKV_AWS_145:A KMS key is the user's choice (kms_key_arn): bottles are public, and readers without credentials can't decrypt.
  #checkov:skip=CKV2_AWS_62:Nothing listens to events of the bucket; receipts are read on a schedule.
  bucket        = var.bucket_name
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })

  # S3 refuses a policy while the block is being changed.
  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = var.enable_versioning ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    # One KMS request for many objects instead of one each.
    bucket_key_enabled = var.kms_key_arn != ""

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn == "" ? null : var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_logging" "this" {
  count = var.access_log_bucket == "" ? 0 : 1

  bucket        = aws_s3_bucket.this.id
  target_bucket = var.access_log_bucket
  target_prefix = "${var.bucket_name}/"
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  #checkov:skip=CKV_AWS_300:The first rule aborts them, for all keys; the check does not see through the rule that may be there.
  bucket = aws_s3_bucket.this.id

  # A process that was killed leaves its upload behind, which is paid for and
  # seen by nobody. The longest transfer takes hours.
  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # The only rule that expires anything current. A bottle gets the tag when
  # upstream dropped it and no published API file names it any more, and is written
  # anew then: the days count from there. So do its copies under flat names, wherever
  # they are: the tag alone says what expires.
  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
  rule {
    id     = "expire-superseded-bottles"
    status = "Enabled"

    filter {
      tag {
        key   = local.contract.superseded_tag.key
        value = local.contract.superseded_tag.value
      }
    }

    expiration {
      days = var.superseded_expiration_days
    }
  }

  rule {
    id     = "expire-noncurrent-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_version_expiration_days
    }

    # What is left of an object that expired or was deleted, once its versions are gone.
    expiration {
      expired_object_delete_marker = true
    }
  }

  # The manifest and the receipts are replaced and removed all the time.
  rule {
    id     = "expire-noncurrent-state"
    status = "Enabled"

    filter {
      prefix = "_sync/"
    }

    noncurrent_version_expiration {
      noncurrent_days = min(7, var.noncurrent_version_expiration_days)
    }
  }

  dynamic "rule" {
    for_each = var.intelligent_tiering_after_days > 0 ? [var.intelligent_tiering_after_days] : []

    content {
      id     = "tier-bottles"
      status = "Enabled"

      filter {
        prefix = "v2/"
      }

      transition {
        days          = rule.value
        storage_class = "INTELLIGENT_TIERING"
      }
    }
  }

  # Rules on versions are taken once the bucket has them.
  depends_on = [aws_s3_bucket_versioning.this]
}

# The replica, in another region.

locals {
  replica_name = "${substr(var.bucket_name, 0, 55)}-replica"
  replica_arn  = "arn:${var.context.partition}:s3:::${local.replica_name}"
  replicas     = var.enable_replication ? 1 : 0
}

resource "aws_s3_bucket" "replica" {
  #checkov:skip=CKV_AWS_18:Nobody reads the replica but in an emergency.
  #checkov:skip=CKV_AWS_144:It is the replica.
  #checkov:skip=CKV_AWS_145:A KMS key is the user's choice (replica_kms_key_arn), as for the bucket itself.
  #checkov:skip=CKV2_AWS_62:Nothing listens to events of the replica.
  count    = local.replicas
  provider = aws.backup

  bucket        = local.replica_name
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_ownership_controls" "replica" {
  count    = local.replicas
  provider = aws.backup

  bucket = aws_s3_bucket.replica[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "replica" {
  count    = local.replicas
  provider = aws.backup

  bucket                  = aws_s3_bucket.replica[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "replica" {
  count    = local.replicas
  provider = aws.backup

  bucket = aws_s3_bucket.replica[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.replica_arn, "${local.replica_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.replica]
}

resource "aws_s3_bucket_versioning" "replica" {
  count    = local.replicas
  provider = aws.backup

  bucket = aws_s3_bucket.replica[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "replica" {
  count    = local.replicas
  provider = aws.backup

  bucket = aws_s3_bucket.replica[0].id

  rule {
    bucket_key_enabled = var.replica_kms_key_arn != ""

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.replica_kms_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.replica_kms_key_arn == "" ? null : var.replica_kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "replica" {
  count    = local.replicas
  provider = aws.backup

  bucket = aws_s3_bucket.replica[0].id

  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  rule {
    id     = "expire-noncurrent-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_version_expiration_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.replica]
}

resource "aws_iam_role" "replication" {
  count = local.replicas

  name = "${var.name}-s3-replication"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "S3Replicates"
      Effect    = "Allow"
      Principal = { Service = "s3.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "replication" {
  count = local.replicas

  name = "replicate"
  role = aws_iam_role.replication[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "ReadTheConfiguration"
          Effect   = "Allow"
          Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
          Resource = [local.arn]
        },
        {
          Sid      = "ReadVersions"
          Effect   = "Allow"
          Action   = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"]
          Resource = ["${local.arn}/*"]
        },
        {
          Sid      = "WriteReplicas"
          Effect   = "Allow"
          Action   = ["s3:ReplicateObject", "s3:ReplicateTags"]
          Resource = ["${local.replica_arn}/*"]
        },
      ],
      [for key in var.kms_key_arn == "" ? [] : [var.kms_key_arn] : {
        Sid      = "Decrypt"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [key]
      }],
      [for key in var.replica_kms_key_arn == "" ? [] : [var.replica_kms_key_arn] : {
        Sid      = "Encrypt"
        Effect   = "Allow"
        Action   = ["kms:Encrypt"]
        Resource = [key]
      }],
    )
  })
}

resource "aws_s3_bucket_replication_configuration" "this" {
  count = local.replicas

  bucket = aws_s3_bucket.this.id
  role   = aws_iam_role.replication[0].arn

  rule {
    id     = "all"
    status = "Enabled"

    filter {}

    # What expires or is deleted here stays there: the last good copy.
    delete_marker_replication {
      status = "Disabled"
    }

    dynamic "source_selection_criteria" {
      for_each = var.kms_key_arn == "" ? [] : [true]

      content {
        sse_kms_encrypted_objects {
          status = "Enabled"
        }
      }
    }

    destination {
      bucket        = local.replica_arn
      storage_class = "STANDARD_IA"

      dynamic "encryption_configuration" {
        for_each = var.replica_kms_key_arn == "" ? [] : [var.replica_kms_key_arn]

        content {
          replica_kms_key_id = encryption_configuration.value
        }
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this, aws_s3_bucket_versioning.replica, aws_iam_role_policy.replication]
}

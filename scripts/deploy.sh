#!/usr/bin/env bash
# Deploys one environment to AWS with the Terraform in terraform/, or takes it
# down again. `scripts/deploy.sh --help` says how.
#
# It runs in bash 3.2 too, which is what macs have.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/deploy.sh -e ENV [option…]

Deploys ENV with terraform/ENV.tfvars: makes the bucket of Terraform's state if
there is none, the packages for Lambda and the service's image if they are
missing, shows the plan, asks, and applies it.

  -e, --environment ENV       dev, staging or prod
  -r, --region REGION         else aws_region of ENV.tfvars, AWS_REGION, us-east-1
  -p, --plan-only             show the plan; nothing on AWS is made or changed
  -a, --auto-approve          apply without asking
  -d, --destroy               delete what is deployed; with -p show what that is
  -i, --init-only             make the state's bucket, initialise Terraform, stop
  -v, --validate-only         check the format and the configuration; takes no AWS,
                              and no -e
      --build                 build the packages for Lambda even if they are there
      --confirm-destroy-prod  what -a -d takes besides where ENV is prod
  -h, --help                  this text

terraform/ENV.local.tfvars, if it is there, wins over ENV.tfvars: it is not in
git, and for what is one account's own, such as e-mail addresses.

SLACK_WEBHOOK_URL in the environment is handed to Terraform in the environment.
Terraform's own variables work as always: TF_CLI_ARGS_plan, TF_DATA_DIR, or
TF_PLUGIN_CACHE_DIR, which saves it from fetching its provider anew for each
environment.

Exit codes: 0 done; 1 failed, or not approved; 2 the command line is wrong, or
there is no terminal to ask on. Where Terraform fails, its own.
TEXT
}

step() { printf '==> %s\n' "$*"; }

die() {
    printf 'deploy.sh: %s\n' "$*" >&2
    exit 1
}

# The command line is at fault.
refuse() {
    printf 'deploy.sh: %s\n' "$*" >&2
    exit 2
}

refuse_with_usage() {
    printf 'deploy.sh: %s\n\n' "$*" >&2
    usage >&2
    exit 2
}

# tf VERB ARGUMENTS...: Terraform colours its words in files and logs too.
tf() {
    local verb=$1
    shift
    if [ -t 1 ]; then
        terraform -chdir=terraform "$verb" "$@"
    else
        terraform -chdir=terraform "$verb" -no-color "$@"
    fi
}

main() {
    parse_options "$@"
    CDPATH='' cd -- "$(dirname -- "$0")/.."

    # Whatever can be found wrong is found before anything is changed.
    check_terraform
    if [ -n "$validate_only" ]; then
        validate
        return
    fi
    read_settings
    check_terminal
    check_aws
    [ -n "$destroy$init_only" ] || choose_image
    step "$environment in account $account, $region"

    if [ -z "$destroy$init_only" ]; then prepare_packages; fi
    prepare_state_bucket
    initialise
    if [ -n "$init_only" ]; then
        step "Initialised. The state is s3://$state_bucket/$state_key"
        return
    fi
    # It is an ephemeral variable: no plan file holds it, so it must still be in
    # the environment when the plan is applied. On a command line any user of
    # this machine could read it.
    if [ -n "${SLACK_WEBHOOK_URL-}" ]; then
        export TF_VAR_slack_webhook_url=$SLACK_WEBHOOK_URL
        step "Slack: SLACK_WEBHOOK_URL is handed to Terraform"
    fi
    if [ -n "$destroy" ]; then
        destroy_all
    else
        deploy
    fi
}

# ---- the command line

# A flag holds its own option, or nothing.
environment=
region=
plan_only=
auto_approve=
destroy=
init_only=
validate_only=
build=
confirmed=

parse_options() {
    local option
    while [ $# -gt 0 ]; do
        option=$1
        shift
        # `--region=R`, `-rR` and `-ad` become `--region R`, `-r R` and `-a -d`.
        case $option in
            --environment=* | --region=*)
                set -- "${option#*=}" "$@"
                option=${option%%=*}
                ;;
            -[er]?*)
                set -- "${option#-?}" "$@"
                option=${option:0:2}
                ;;
            -[padivh]?*)
                set -- "-${option#-?}" "$@"
                option=${option:0:2}
                ;;
        esac
        case $option in
            -e | --environment)
                [ $# -gt 0 ] || refuse_with_usage "$option takes an environment"
                # deploy-dev.sh -e prod is a mistake, whatever was meant.
                if [ -n "$environment" ] && [ "$environment" != "$1" ]; then
                    refuse "two environments are named: $environment and $1"
                fi
                environment=$1
                shift
                ;;
            -r | --region)
                [ $# -gt 0 ] || refuse_with_usage "$option takes a region"
                region=$1
                shift
                ;;
            -p | --plan-only) plan_only=-p ;;
            -a | --auto-approve) auto_approve=-a ;;
            -d | --destroy) destroy=-d ;;
            -i | --init-only) init_only=-i ;;
            -v | --validate-only) validate_only=-v ;;
            --build) build=--build ;;
            --confirm-destroy-prod) confirmed=--confirm-destroy-prod ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) refuse_with_usage "there is no option $option" ;;
        esac
    done

    case $environment in
        dev | staging | prod) ;;
        "") [ -n "$validate_only" ] || refuse_with_usage "-e is missing: dev, staging or prod" ;;
        *) refuse_with_usage "-e is dev, staging or prod, not $environment" ;;
    esac
    local only
    for only in "$init_only" "$validate_only"; do
        if [ -n "$only" ] &&
            [ "$only" != "$init_only$validate_only$plan_only$auto_approve$destroy$build$confirmed" ]; then
            refuse "$only does one thing, and takes only -e and -r besides"
        fi
    done
    if [ -n "$plan_only" ] && [ -n "$auto_approve" ]; then
        refuse "-p applies nothing, so there is nothing that -a could approve: give one of them"
    fi
    if [ -n "$destroy" ] && [ -n "$build" ]; then
        refuse "-d needs no packages: leave --build away"
    fi
    if [ -n "$confirmed" ] && [ -z "$destroy" ]; then
        refuse "--confirm-destroy-prod is for -d, and -d is not given"
    fi
    if [ "$environment" = prod ] && [ -n "$destroy" ] && [ -n "$auto_approve" ] && [ -z "$confirmed" ]; then
        refuse "-a -d would delete prod without asking: give --confirm-destroy-prod too if that is meant, or leave -a away"
    fi
}

# ---- checks: nothing here changes anything

check_terraform() {
    command -v terraform >/dev/null ||
        die "terraform is not installed: https://developer.hashicorp.com/terraform/install has 1.11 or later"
    local version major minor
    # Its JSON is spread over lines, and jq may be missing.
    version=$(terraform version -json | sed -n 's/.*"terraform_version": *"\([^"]*\)".*/\1/p')
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    case $major.$minor in
        [0-9]*.[0-9]*) ;;
        *) die "'terraform version -json' does not say its version" ;;
    esac
    if [ "$major" -lt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -lt 11 ]; }; then
        die "terraform $version is too old: the state is locked in S3 itself, which takes 1.11 or later"
    fi
}

read_settings() {
    [ -f "terraform/$environment.tfvars" ] ||
        die "terraform/$environment.tfvars is missing: it says what $environment is"
    if [ -z "$region" ]; then
        lookup aws_region
        region=${value:-${AWS_REGION:-us-east-1}}
    fi
    # It becomes part of names of buckets and folders.
    case $region in
        *[!a-z0-9-]* | -*) refuse "the region is a name such as eu-central-1, not '$region'" ;;
    esac
    lookup project_name
    full_name=${value:-homebrew-bottles-sync}-$environment

    # Paths are those that Terraform sees from terraform/. Later ones win.
    variables=("-var-file=$environment.tfvars")
    if [ -f "terraform/$environment.local.tfvars" ]; then
        variables+=("-var-file=$environment.local.tfvars")
    fi
    variables+=(-var "environment=$environment" -var "aws_region=$region")

    # A folder for each, so that no command meets the state of another one.
    export TF_DATA_DIR="${TF_DATA_DIR:-$PWD/terraform/.terraform-$environment-$region}"
    # Terraform leaves away its advice on what to run next: that is done here.
    export TF_IN_AUTOMATION="${TF_IN_AUTOMATION-1}"
}

# lookup NAME: sets $value to what Terraform will take for the variable, by the
# same order, or to nothing. terraform.tfvars is for Terraform alone.
lookup() {
    local file code variable=TF_VAR_$1
    for file in "$environment.local.tfvars" "$environment.tfvars"; do
        [ -f "terraform/$file" ] || continue
        code=0
        value=$(value_in_tfvars "$1" "terraform/$file") || code=$?
        case $code in
            0) return ;;
            1) ;;
            *) die "terraform/$file: $1 can't be read: write it on one line, as $1 = \"…\"" ;;
        esac
    done
    value=${!variable-}
}

# value_in_tfvars NAME FILE: prints a plain value. Exits 1 where the file does
# not set it, 2 where it is no plain value. What is in comments, heredocs and
# nested objects is not taken for a setting.
value_in_tfvars() {
    awk -v name="$1" '
        BEGIN { status = 1 }
        { sub(/\r$/, "") }
        heredoc != "" {
            line = $0
            gsub(/^[ \t]+|[ \t]+$/, "", line)
            if (line == heredoc) heredoc = ""
            next
        }
        {
            outside = depth == 0
            text = ""
            quoted = 0
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                two = substr($0, i, 2)
                if (comment) {
                    if (two == "*/") { comment = 0; i++ }
                } else if (quoted) {
                    text = text c
                    if (c == "\\") text = text substr($0, ++i, 1)
                    else if (c == "\"") quoted = 0
                } else if (c == "#" || two == "//") {
                    break
                } else if (two == "/*") {
                    comment = 1
                    i++
                } else if (two == "<<") {
                    heredoc = substr($0, i)
                    sub(/^<<-?/, "", heredoc)
                    gsub(/[ \t]+$/, "", heredoc)
                    text = text two
                    break
                } else {
                    if (c == "\"") quoted = 1
                    if (index("[{(", c)) depth++
                    if (index("]})", c)) depth--
                    text = text c
                }
            }
            equals = index(text, "=")
            if (!outside || !equals) next
            key = substr(text, 1, equals - 1)
            gsub(/[ \t]/, "", key)
            if (key != name) next
            found = substr(text, equals + 1)
            gsub(/^[ \t]+|[ \t]+$/, "", found)
            if (found ~ /^"[^"\\]*"$/) found = substr(found, 2, length(found) - 2)
            else if (found == "null") found = ""
            else if (found !~ /^[A-Za-z0-9_.-]+$/) { status = 2; exit }
            print found
            status = 0
            exit
        }
        END { exit status }
    ' "$2"
}

check_terminal() {
    [ -z "$auto_approve$plan_only$init_only" ] || return 0
    [ -t 0 ] ||
        refuse "there is no terminal to ask on: -a (--auto-approve) goes on without asking, -p (--plan-only) only shows the plan"
}

check_aws() {
    # Version 2 would show answers in a pager.
    export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
    aws --version >/dev/null 2>&1 ||
        die "the AWS CLI is not installed: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html has it"
    local answer
    answer=$(aws sts get-caller-identity --region "$region" --query '[Account,Arn]' --output text 2>&1) ||
        die "AWS does not take your credentials: run 'aws configure' or 'aws sso login', or set AWS_PROFILE. It says: $answer"
    # 123456789012 <tab> arn:aws:iam::123456789012:user/somebody
    account=$(printf '%s\n' "$answer" | awk '$2 ~ /^arn:/ { print $1 }')
    partition=$(printf '%s\n' "$answer" | awk '$2 ~ /^arn:/ { split($2, part, ":"); print part[2] }')
    case $account in
        *[!0-9]* | "") die "'aws sts get-caller-identity' names no account: $answer" ;;
    esac
    state_bucket=terraform-state-$account-$region
    state_key=homebrew-bottles-sync/$environment/terraform.tfstate
}

# Sets $image where the variables name one, else the $tag of the one to build.
choose_image() {
    lookup ecs_container_image
    image=$value
    [ -z "$image" ] || return 0

    lookup ecs_cpu_architecture
    local suffix=
    case $value in
        X86_64 | "") platform=linux/amd64 ;;
        ARM64)
            platform=linux/arm64
            # The other architecture's image of the same commit must not be taken for it.
            suffix=-arm64
            ;;
        *) die "ecs_cpu_architecture is X86_64 or ARM64, not '$value'" ;;
    esac

    # Before Terraform runs: its init may write to its lock file.
    local changes
    if ! commit=$(git rev-parse HEAD) || ! changes=$(git status --porcelain); then
        die "git can't say which commit this is, and the image is named after it: set ecs_container_image in terraform/$environment.tfvars, or deploy from a git checkout"
    fi
    commit=${commit:0:12}
    dirty=
    [ -z "$changes" ] || dirty=-dirty-$(date -u +%Y%m%d%H%M%S)
    tag=$commit$dirty$suffix
}

validate() {
    use_work_folder
    # The folder of its own leaves alone what a real init has set up.
    export TF_DATA_DIR="$work/data"
    step "Format"
    tf fmt -check -recursive ||
        die "the files above are not formatted: terraform -chdir=terraform fmt -recursive"
    step "Configuration"
    tf init -backend=false -input=false
    tf validate
}

# ---- what goes before a plan

prepare_packages() {
    local flag='' needed='' missing=''
    lookup lambda_orchestrator_zip_path
    if is_our_package "$value" producer.zip; then needed="$needed build/producer.zip"; fi
    lookup lambda_sync_zip_path
    if is_our_package "$value" consumer-lambda.zip; then needed="$needed build/consumer-lambda.zip"; fi
    lookup lambda_architecture
    case $value in
        x86_64 | "") ;;
        arm64) flag=--arm64 ;;
        *) die "lambda_architecture is x86_64 or arm64, not '$value'" ;;
    esac

    local package
    for package in $needed; do
        [ -f "$package" ] || missing=yes
    done
    if [ -n "$build$missing" ]; then
        step "Lambda packages: building them${flag:+ ($flag)}"
        scripts/build-lambda-packages.sh ${flag:+"$flag"}
    elif [ -n "$needed" ]; then
        step "Lambda packages:$needed are used as they are; --build makes them anew"
    fi
}

# is_our_package PATH NAME: whether Terraform will read build/NAME, as it does by
# default. Other packages are somebody else's to build.
is_our_package() {
    case $1 in
        "" | "../build/$2" | "$PWD/build/$2") return 0 ;;
        *) return 1 ;;
    esac
}

prepare_state_bucket() {
    local answer
    # The name can be guessed, so somebody else may have taken it: nothing is
    # read from or written to a bucket that is not this account's.
    if answer=$(aws s3api head-bucket --region "$region" --bucket "$state_bucket" \
        --expected-bucket-owner "$account" 2>&1); then
        [ -n "$plan_only" ] || settle_state_bucket
        return
    fi
    case $answer in
        *"(404)"*) ;;
        *"(403)"*)
            die "S3 refuses access to the state's bucket $state_bucket (403): it belongs to another account, or your credentials may not list it. Nothing was changed."
            ;;
        *) die "the state's bucket $state_bucket can't be looked up: $answer" ;;
    esac
    if [ -n "$destroy" ]; then
        die "there is no state's bucket $state_bucket: nothing was deployed to this account and region from here"
    elif [ -n "$plan_only" ]; then
        die "there is no state's bucket $state_bucket yet, which a plan needs: this would be the first deployment, and 'scripts/deploy.sh -e $environment -r $region -i' makes the bucket"
    fi
    step "State: making the bucket $state_bucket"
    # us-east-1 is no location constraint that S3 takes.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    local location=()
    [ "$region" = us-east-1 ] || location=(--create-bucket-configuration "LocationConstraint=$region")
    aws s3api create-bucket --region "$region" --bucket "$state_bucket" \
        ${location[@]+"${location[@]}"} >/dev/null ||
        die "the state's bucket $state_bucket can't be made"
    state_bucket_call wait bucket-exists
    settle_state_bucket
}

# Done each time: a run that was stopped after it had made the bucket, or a hand
# that changed it, leaves nothing open.
settle_state_bucket() {
    step "State: settling the bucket $state_bucket"
    state_bucket_call put-public-access-block --public-access-block-configuration \
        BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
    # Its name is as general as others use it: a key or a policy that somebody
    # else gave it stays.
    case $(state_bucket_ask get-bucket-encryption) in
        *aws:kms*) ;;
        *)
            state_bucket_call put-bucket-encryption --server-side-encryption-configuration \
                '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}'
            ;;
    esac
    # A state that was overwritten or deleted by mistake can be had back.
    state_bucket_call put-bucket-versioning --versioning-configuration Status=Enabled
    local arn=arn:$partition:s3:::$state_bucket
    local policy='{"Version":"2012-10-17","Statement":[{"Sid":"TlsOnly","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["'"$arn"'","'"$arn"'/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}'
    case $(state_bucket_ask get-bucket-policy) in
        *NoSuchBucketPolicy* | *TlsOnly*) state_bucket_call put-bucket-policy --policy "$policy" ;;
        *aws:SecureTransport*) ;;
        *) step "State: $state_bucket has a policy of its own, which stays; it does not refuse plain HTTP" ;;
    esac
}

state_bucket_call() {
    local verb=("$1")
    shift
    if [ "${verb[0]}" = wait ]; then
        verb+=("$1")
        shift
    fi
    aws s3api "${verb[@]}" --region "$region" --bucket "$state_bucket" \
        --expected-bucket-owner "$account" "$@" >/dev/null ||
        die "the state's bucket $state_bucket can't be settled (${verb[*]}): the same command goes on from here once that is possible"
}

# What S3 answers, an error too.
state_bucket_ask() {
    aws s3api "$1" --region "$region" --bucket "$state_bucket" --expected-bucket-owner "$account" 2>&1 || true
}

initialise() {
    step "Initialising Terraform"
    tf init -input=false -reconfigure \
        -backend-config="bucket=$state_bucket" \
        -backend-config="key=$state_key" \
        -backend-config="region=$region" \
        -backend-config=encrypt=true \
        -backend-config=use_lockfile=true
}

# ---- the image of consumer-ecs

# Sets $image to one that is in ECR; with -p to one that may not be there yet.
prepare_image() {
    if [ -n "$image" ]; then
        step "Image: $image, as the variables name it"
        return
    fi
    repository=$(repository_url)
    if [ -n "$plan_only" ]; then
        if [ -n "$repository" ]; then
            image=$repository:$tag
            step "Image: $image; with -p it is not built"
        else
            image=$placeholder
            step "Image: there is no repository yet, and with -p none is made: $image stands in for it"
        fi
        return
    fi

    local found=no-repository
    [ -z "$repository" ] || look_up_image
    if [ "$found" = no-repository ]; then
        make_repository
        look_up_image
    fi
    image=$repository:$tag
    case $found in
        yes) step "Image: $image is in ECR already" ;;
        no) build_image ;;
        *) die "the repository of $image was made, and ECR says that it is not there" ;;
    esac
}

# Prints nothing where the state has none.
repository_url() {
    local url
    url=$(tf output -raw ecr_repository_url 2>/dev/null) || return 0
    # Without any outputs Terraform prints a warning in its place, and succeeds.
    case $url in
        *[[:space:]]*) ;;
        */*) printf '%s' "$url" ;;
    esac
}

make_repository() {
    step "Image: making its repository first; -target is meant, Terraform's warning of it can be passed over"
    local approval=()
    [ -z "$auto_approve" ] || approval=(-auto-approve -input=false)
    tf apply ${approval[@]+"${approval[@]}"} \
        -target=module.ecs.aws_ecr_repository.this \
        -target=module.ecs.aws_ecr_lifecycle_policy.this \
        "${variables[@]}" -var "ecs_container_image=$placeholder"
    repository=$(repository_url)
    [ -n "$repository" ] || die "Terraform's output ecr_repository_url names no repository"
}

# Sets $found to yes, no or no-repository.
look_up_image() {
    local answer
    answer=$(aws ecr describe-images --region "$region" --repository-name "${repository#*/}" \
        --image-ids "imageTag=$tag" --query 'imageDetails[0].imageDigest' --output text 2>&1) || true
    case $answer in
        *sha256:*) found=yes ;;
        None | *ImageNotFoundException*) found=no ;;
        *RepositoryNotFoundException*) found=no-repository ;;
        *) die "ECR can't be asked for the image $repository:$tag: $answer" ;;
    esac
}

build_image() {
    local registry=${repository%%/*} lacking=
    if ! command -v docker >/dev/null; then
        lacking="Docker is not installed here"
    elif ! docker info >/dev/null 2>&1; then
        lacking="Docker's daemon does not answer here"
    fi
    if [ -n "$lacking" ]; then
        explain_image "$registry" "$lacking" >&2
        exit 1
    fi
    step "Image: building $image for $platform"
    aws ecr get-login-password --region "$region" |
        docker login --username AWS --password-stdin "$registry" ||
        die "Docker can't log in to $registry"
    docker build --platform "$platform" -f consumer-ecs/Dockerfile -t "$image" . ||
        die "the image can't be built"
    step "Image: pushing it"
    docker push "$image" || die "the image can't be pushed to $registry"
}

explain_image() {
    cat <<TEXT
deploy.sh: the image $image is not in ECR, and $2. Nothing was deployed.
On a machine that has Docker, in a checkout of $commit${dirty:+ with the same changes}:

  aws ecr get-login-password --region $region | docker login --username AWS --password-stdin $1
  docker build --platform $platform -f consumer-ecs/Dockerfile -t $image .
  docker push $image

TEXT
    if [ -n "$dirty" ]; then
        cat <<TEXT
There are changes that are not committed, so the next run gives the image another
name. Commit them first, or have this name used:

  ecs_container_image = "$image"

in terraform/$environment.local.tfvars. Then deploy again.
TEXT
    else
        cat <<TEXT
Then deploy again. Or set ecs_container_image in terraform/$environment.tfvars to an image that
is there already.
TEXT
    fi
}

# ---- plan and apply

deploy() {
    name_placeholder
    prepare_image
    variables+=(-var "ecs_container_image=$image")
    if [ -n "$plan_only" ]; then
        step "Plan"
        tf plan -input=false "${variables[@]}"
        return
    fi
    use_work_folder
    step "Plan"
    tf plan -input=false -out="$work/plan" "${variables[@]}"
    if [ -z "$auto_approve" ]; then
        ask "Apply this to $environment in account $account, $region? [y/N]"
        case $answer in
            y | Y | yes | Yes | YES) ;;
            *) die "not applied" ;;
        esac
    fi
    step "Applying"
    # It prints the outputs at its end.
    tf apply -input=false "$work/plan"
}

destroy_all() {
    # The plan needs a value, and it no longer matters which.
    lookup ecs_container_image
    if [ -z "$value" ]; then
        name_placeholder
        variables+=(-var "ecs_container_image=$placeholder")
    fi
    explain_destroy
    if [ -n "$plan_only" ]; then
        step "Plan of the destruction"
        tf plan -destroy -input=false "${variables[@]}"
        return
    fi
    use_work_folder
    step "Plan of the destruction"
    tf plan -destroy -input=false -out="$work/plan" "${variables[@]}"
    if [ -z "$auto_approve" ]; then
        ask "This deletes $full_name in account $account, $region. Type its full name to go on:"
        [ "$answer" = "$full_name" ] || die "that is not $full_name: nothing was deleted"
    fi
    step "Destroying"
    tf apply -input=false "$work/plan"
    step "Destroyed. The state's bucket $state_bucket stays"
}

explain_destroy() {
    local bucket
    lookup s3_force_destroy
    if [ "$value" = true ]; then
        bucket="the bucket with all its bottles, and its replica if there is one
    (s3_force_destroy is true)"
    else
        bucket="the bucket, and its replica if there is one, if they are empty.
    s3_force_destroy is not true, so AWS refuses to delete a bucket that has
    objects, and Terraform stops there; what it has deleted by then is gone. Set
    s3_force_destroy = true and deploy that before you destroy"
    fi
    step "$full_name in account $account, $region is to be deleted:"
    cat <<TEXT
  - $bucket
  - the queues, with all messages and dead letters in them
  - the logs, the functions, the service, its images, and everything else of it
Kept: the state's bucket $state_bucket.
KMS keys are only scheduled for deletion, and a secret is kept for its recovery
window: until those are over both can be had back.
TEXT
}

# What stands for an image where none is needed yet: variables want a value.
name_placeholder() {
    local suffix=amazonaws.com
    [ "$partition" != aws-cn ] || suffix=amazonaws.com.cn
    placeholder=$account.dkr.ecr.$region.$suffix/$full_name:not-built-yet
}

# Sets $answer; no answer is an empty one.
ask() {
    printf '%s ' "$1" >&2
    answer=
    read -r answer || true
}

# Plans hold secrets of the state: mktemp's folder is this user's alone.
work=
use_work_folder() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

main "$@"

"""The rules as data: the mistake that each finds, and its fix.

No I/O. To add a rule, add a row here and a check in ``lint.checks`` (or in ``plan`` if it needs expanded values).
docs/lint.md is generated from the rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``bad`` and ``good`` are Dockerfiles; an ``experimental`` one applies only on request."""

    name: str
    description: str
    fix: str
    bad: str
    good: str
    experimental: bool = False
    in_buildkit: bool = True

    @property
    def slug(self) -> str:
        """``stage-name-casing``, as in URLs."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower()

    @property
    def url(self) -> str:
        """Docker's page about the rule, ``""`` if BuildKit does not have the rule."""
        documented = self.in_buildkit and self.name != "InvalidBaseImagePlatform"
        return f"https://docs.docker.com/go/dockerfile/rule/{self.slug}/" if documented else ""


RULES: tuple[Rule, ...] = (
    Rule(
        "ConsistentInstructionCasing",
        "All instructions should have the same case, upper or lower.",
        "Use the case that most instructions have.",
        "FROM alpine\nrun echo\nRUN echo\n",
        "FROM alpine\nRUN echo\n",
    ),
    Rule(
        "CopyIgnoredFile",
        "COPY and ADD cannot copy files that .dockerignore excludes.",
        "Remove the pattern from .dockerignore, or don't copy the file.",
        "# .dockerignore: secret.txt\nFROM scratch\nCOPY secret.txt /\n",
        "# .dockerignore: secret.txt\nFROM scratch\nCOPY app.txt /\n",
    ),
    Rule(
        "DuplicateStageName",
        "Stages with the same name hide each other: the name refers to the last one.",
        "Use a unique name for each stage.",
        "FROM debian AS build\nFROM golang AS build\n",
        "FROM debian AS deps\nFROM golang AS build\n",
    ),
    Rule(
        "EmptyCopySource",
        "An empty source of COPY or ADD, such as a variable without a value, copies the whole context.",
        "Use . to copy the whole context, or set the variable.",
        'FROM scratch\nARG DIR\nCOPY "$DIR" /src/\n',
        'FROM scratch\nARG DIR=app\nCOPY "$DIR" /src/\n',
        in_buildkit=False,
    ),
    Rule(
        "ExposeInvalidFormat",
        "EXPOSE takes ports of the container, without addresses or ports of the host.",
        "Use only the port of the container: EXPOSE 80.",
        "FROM alpine\nEXPOSE 127.0.0.1:80:80\n",
        "FROM alpine\nEXPOSE 80\n",
    ),
    Rule(
        "ExposeProtoCasing",
        "The protocol in EXPOSE should be lower case.",
        "Use tcp, udp or sctp.",
        "FROM alpine\nEXPOSE 80/TCP\n",
        "FROM alpine\nEXPOSE 80/tcp\n",
    ),
    Rule(
        "FromAsCasing",
        "FROM and AS should have the same case.",
        "Use FROM image AS name, or from image as name.",
        "FROM debian as build\n",
        "FROM debian AS build\n",
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "A constant FROM --platform ignores the requested platform.",
        "Remove --platform, use $BUILDPLATFORM or $TARGETPLATFORM, or name the stage after the platform.",
        "FROM --platform=linux/amd64 alpine\n",
        "FROM alpine\n",
    ),
    Rule(
        "InvalidBaseImagePlatform",
        "The base image is for another platform than the build.",
        "Use an image for the platform of the build, or request that of the image with --custom-platform.",
        "FROM --platform=linux/arm64 image-that-is-only-for-amd64\n",
        "FROM image-that-has-both\n",
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Without --build-arg the name of the base image is empty or invalid.",
        "Set a default that results in a valid name: ARG TAG=latest.",
        "ARG TAG\nFROM busybox:${TAG}\n",
        "ARG TAG=latest\nFROM busybox:${TAG}\n",
    ),
    Rule(
        "InvalidDefinitionDescription",
        "A comment directly above an ARG or a stage describes it and should start with its name.",
        "Start the comment with the name, or add a blank line below it.",
        "# the base image\nARG BASE=alpine\nFROM $BASE\n",
        "# BASE the base image\nARG BASE=alpine\nFROM $BASE\n",
        experimental=True,
    ),
    Rule(
        "JSONArgsRecommended",
        "CMD and ENTRYPOINT in shell form run in a shell, which does not pass signals to the program.",
        'Use a JSON array: CMD ["program", "argument"], or set SHELL if you want a shell.',
        "FROM alpine\nCMD my-program start\n",
        'FROM alpine\nCMD ["my-program", "start"]\n',
    ),
    Rule(
        "LegacyKeyValueFormat",
        "ENV and LABEL with a space between key and value are a legacy form.",
        "Use key=value.",
        "FROM alpine\nENV DIR /src\n",
        "FROM alpine\nENV DIR=/src\n",
    ),
    Rule(
        "MaintainerDeprecated",
        "MAINTAINER is deprecated.",
        "Use LABEL org.opencontainers.image.authors=name.",
        "FROM alpine\nMAINTAINER jane@example.com\n",
        'FROM alpine\nLABEL org.opencontainers.image.authors="jane@example.com"\n',
    ),
    Rule(
        "MultipleInstructionsDisallowed",
        "If a stage has several CMD, ENTRYPOINT or HEALTHCHECK, only the last one has an effect.",
        "Remove all but the last.",
        'FROM alpine\nENTRYPOINT ["a"]\nENTRYPOINT ["b"]\n',
        'FROM alpine\nENTRYPOINT ["b"]\n',
    ),
    Rule(
        "NoEmptyContinuation",
        "Blank lines in a continued instruction will become an error.",
        "Remove the blank line, or turn it into a comment.",
        "FROM alpine\nRUN echo a && \\\n\n    echo b\n",
        "FROM alpine\nRUN echo a && \\\n    echo b\n",
    ),
    Rule(
        "OnbuildTrigger",
        "An invalid trigger fails every build that uses the image as its base.",
        "Fix the instruction after ONBUILD.",
        "FROM alpine\nONBUILD COPY app\n",
        "FROM alpine\nONBUILD COPY app /app\n",
        in_buildkit=False,
    ),
    Rule(
        "RedundantTargetPlatform",
        "The target platform is the default of FROM.",
        "Remove --platform=$TARGETPLATFORM.",
        "FROM --platform=$TARGETPLATFORM alpine\n",
        "FROM alpine\n",
    ),
    Rule(
        "ReservedStageName",
        "The names scratch and context are reserved.",
        "Use another name for the stage.",
        "FROM alpine AS scratch\n",
        "FROM alpine AS builder\n",
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Values of ARG and ENV are stored in the history and configuration of the image, where anyone who can pull it can read them.",
        "Use RUN --mount=type=secret.",
        "FROM alpine\nARG AWS_SECRET_ACCESS_KEY\n",
        "FROM alpine\nRUN --mount=type=secret,id=aws,env=AWS_SECRET_ACCESS_KEY true\n",
    ),
    Rule(
        "StageNameCasing",
        "Stage names should be lower case.",
        "Use a lower-case name.",
        "FROM alpine AS BuilderBase\n",
        "FROM alpine AS builder-base\n",
    ),
    Rule(
        "UndeclaredBuildArg",
        "A build argument without an ARG has no effect.",
        "Declare it with ARG NAME, or remove the build argument.",
        "# --build-arg VERSON=1\nARG VERSION\nFROM alpine\n",
        "# --build-arg VERSION=1\nARG VERSION\nFROM alpine\n",
        in_buildkit=False,
    ),
    Rule(
        "UndefinedArgInFrom",
        "FROM uses an argument that is not declared before it.",
        "Declare it before the first FROM: ARG NAME=value.",
        "FROM alpine:${VERSION}-x\n",
        "ARG VERSION=3\nFROM alpine:${VERSION}-x\n",
    ),
    Rule(
        "UndefinedVar",
        "The variable is not defined and expands to an empty string.",
        "Define it with ARG or ENV, or fix its name.",
        "FROM alpine AS base\nCOPY $foo .\n",
        "FROM alpine AS base\nARG foo=x\nCOPY $foo .\n",
    ),
    Rule(
        "UnknownRule",
        "The check directive names an unknown rule.",
        "Use the name of an existing rule.",
        "# check=skip=StageNameCase\nFROM alpine\n",
        "# check=skip=StageNameCasing\nFROM alpine\n",
        in_buildkit=False,
    ),
    Rule(
        "WorkdirRelativePath",
        "A relative WORKDIR depends on the working directory of the base image, which may change.",
        "Use an absolute path.",
        "FROM alpine\nWORKDIR usr/src/app\n",
        "FROM alpine\nWORKDIR /usr/src/app\n",
    ),
)

BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}

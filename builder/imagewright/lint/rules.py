"""The rules, as data: what each finds, why it matters, what to write instead.

No I/O. Adding a rule is a row here and a check in ``lint.checks`` (or, where it needs values that only planning knows, in
``plan``). ``lint.ruledocs`` makes docs/lint.md of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``bad`` and ``good`` are Dockerfiles; an ``experimental`` one is only applied when asked for."""

    name: str
    description: str
    fix: str
    bad: str
    good: str
    experimental: bool = False
    in_buildkit: bool = True

    @property
    def slug(self) -> str:
        """``stage-name-casing``, as addresses have it."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower()

    @property
    def url(self) -> str:
        """Docker's page about the rule, ``""`` for one that BuildKit hasn't."""
        documented = self.in_buildkit and self.name != "InvalidBaseImagePlatform"
        return f"https://docs.docker.com/go/dockerfile/rule/{self.slug}/" if documented else ""


RULES: tuple[Rule, ...] = (
    Rule(
        "ConsistentInstructionCasing",
        "Instructions are written in one case, upper or lower, all over the file.",
        "Write all instructions in the case that most have.",
        "FROM alpine\nrun echo\nRUN echo\n",
        "FROM alpine\nRUN echo\n",
    ),
    Rule(
        "CopyIgnoredFile",
        "COPY and ADD can't take what .dockerignore leaves out.",
        "Remove the pattern from .dockerignore, or don't copy the file.",
        "# .dockerignore: secret.txt\nFROM scratch\nCOPY secret.txt /\n",
        "# .dockerignore: secret.txt\nFROM scratch\nCOPY app.txt /\n",
    ),
    Rule(
        "DuplicateStageName",
        "Two stages have the same name: the first can't be reached by it any more.",
        "Give each stage a name of its own.",
        "FROM debian AS build\nFROM golang AS build\n",
        "FROM debian AS deps\nFROM golang AS build\n",
    ),
    Rule(
        "EmptyCopySource",
        "An empty source of COPY or ADD, as of a variable without a value, is the whole context.",
        "Write . where the whole context is meant, else give the variable a value.",
        'FROM scratch\nARG DIR\nCOPY "$DIR" /src/\n',
        'FROM scratch\nARG DIR=app\nCOPY "$DIR" /src/\n',
        in_buildkit=False,
    ),
    Rule(
        "ExposeInvalidFormat",
        "EXPOSE names ports of the container; addresses and ports of the host are not its affair.",
        "Write the container's port alone: EXPOSE 80.",
        "FROM alpine\nEXPOSE 127.0.0.1:80:80\n",
        "FROM alpine\nEXPOSE 80\n",
    ),
    Rule(
        "ExposeProtoCasing",
        "The protocol of EXPOSE is written in lower case.",
        "Write tcp, udp or sctp.",
        "FROM alpine\nEXPOSE 80/TCP\n",
        "FROM alpine\nEXPOSE 80/tcp\n",
    ),
    Rule(
        "FromAsCasing",
        "FROM and AS are written in the same case.",
        "Write FROM image AS name, or from image as name.",
        "FROM debian as build\n",
        "FROM debian AS build\n",
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "A constant FROM --platform builds for that platform whatever is asked for.",
        "Leave --platform out, use $BUILDPLATFORM or $TARGETPLATFORM, or name the stage after the platform.",
        "FROM --platform=linux/amd64 alpine\n",
        "FROM alpine\n",
    ),
    Rule(
        "InvalidBaseImagePlatform",
        "The base image is of another platform than the one that is built for.",
        "Use an image that has the platform, or ask for the image's with --custom-platform.",
        "FROM --platform=linux/arm64 image-that-is-only-for-amd64\n",
        "FROM image-that-has-both\n",
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Without --build-arg the name of the base image is empty or none.",
        "Give the ARG a default that makes a name of it: ARG TAG=latest.",
        "ARG TAG\nFROM busybox:${TAG}\n",
        "ARG TAG=latest\nFROM busybox:${TAG}\n",
    ),
    Rule(
        "InvalidDefinitionDescription",
        "A comment right above an ARG or a stage describes it, and begins with its name.",
        "Begin the comment with the name, or put a blank line below it.",
        "# the base image\nARG BASE=alpine\nFROM $BASE\n",
        "# BASE the base image\nARG BASE=alpine\nFROM $BASE\n",
        experimental=True,
    ),
    Rule(
        "JSONArgsRecommended",
        "In shell form, CMD and ENTRYPOINT run below a shell, which keeps signals from the program.",
        'Write a JSON array: CMD ["program", "argument"]; or set SHELL where a shell is meant.',
        "FROM alpine\nCMD my-program start\n",
        'FROM alpine\nCMD ["my-program", "start"]\n',
    ),
    Rule(
        "LegacyKeyValueFormat",
        "ENV and LABEL with a space between key and value are an old form.",
        "Write key=value.",
        "FROM alpine\nENV DIR /src\n",
        "FROM alpine\nENV DIR=/src\n",
    ),
    Rule(
        "MaintainerDeprecated",
        "MAINTAINER is deprecated.",
        "Write LABEL org.opencontainers.image.authors=name.",
        "FROM alpine\nMAINTAINER jane@example.com\n",
        'FROM alpine\nLABEL org.opencontainers.image.authors="jane@example.com"\n',
    ),
    Rule(
        "MultipleInstructionsDisallowed",
        "Of several CMD, ENTRYPOINT or HEALTHCHECK in a stage only the last one counts.",
        "Remove all but the last.",
        'FROM alpine\nENTRYPOINT ["a"]\nENTRYPOINT ["b"]\n',
        'FROM alpine\nENTRYPOINT ["b"]\n',
    ),
    Rule(
        "NoEmptyContinuation",
        "A blank line within a continued instruction will become an error.",
        "Remove the blank line, or make it a comment.",
        "FROM alpine\nRUN echo a && \\\n\n    echo b\n",
        "FROM alpine\nRUN echo a && \\\n    echo b\n",
    ),
    Rule(
        "OnbuildTrigger",
        "A trigger that can't be read fails every build on the image.",
        "Correct the instruction after ONBUILD.",
        "FROM alpine\nONBUILD COPY app\n",
        "FROM alpine\nONBUILD COPY app /app\n",
        in_buildkit=False,
    ),
    Rule(
        "RedundantTargetPlatform",
        "The target platform is what FROM takes anyway.",
        "Leave --platform=$TARGETPLATFORM out.",
        "FROM --platform=$TARGETPLATFORM alpine\n",
        "FROM alpine\n",
    ),
    Rule(
        "ReservedStageName",
        "scratch and context mean something else already.",
        "Give the stage another name.",
        "FROM alpine AS scratch\n",
        "FROM alpine AS builder\n",
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Values of ARG and ENV are in the image's history and configuration, for everybody who can pull it.",
        "Use RUN --mount=type=secret.",
        "FROM alpine\nARG AWS_SECRET_ACCESS_KEY\n",
        "FROM alpine\nRUN --mount=type=secret,id=aws,env=AWS_SECRET_ACCESS_KEY true\n",
    ),
    Rule(
        "StageNameCasing",
        "Names of stages are written in lower case.",
        "Write the name in lower case.",
        "FROM alpine AS BuilderBase\n",
        "FROM alpine AS builder-base\n",
    ),
    Rule(
        "UndeclaredBuildArg",
        "A build argument that no ARG declares does nothing.",
        "Declare it (ARG NAME), or leave the build argument out.",
        "# --build-arg VERSON=1\nARG VERSION\nFROM alpine\n",
        "# --build-arg VERSION=1\nARG VERSION\nFROM alpine\n",
        in_buildkit=False,
    ),
    Rule(
        "UndefinedArgInFrom",
        "FROM uses an argument that is declared nowhere above.",
        "Declare it before the first FROM: ARG NAME=value.",
        "FROM alpine:${VERSION}-x\n",
        "ARG VERSION=3\nFROM alpine:${VERSION}-x\n",
    ),
    Rule(
        "UndefinedVar",
        "A variable is used that nothing defines: it is empty.",
        "Define it with ARG or ENV, or write its name as it was defined.",
        "FROM alpine AS base\nCOPY $foo .\n",
        "FROM alpine AS base\nARG foo=x\nCOPY $foo .\n",
    ),
    Rule(
        "UnknownRule",
        "The check directive names a rule that there isn't.",
        "Write the name of a rule that there is.",
        "# check=skip=StageNameCase\nFROM alpine\n",
        "# check=skip=StageNameCasing\nFROM alpine\n",
        in_buildkit=False,
    ),
    Rule(
        "WorkdirRelativePath",
        "A relative WORKDIR depends on where the base image was, which may change.",
        "Write an absolute path.",
        "FROM alpine\nWORKDIR usr/src/app\n",
        "FROM alpine\nWORKDIR /usr/src/app\n",
    ),
)

BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}

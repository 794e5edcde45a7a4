"""Freestyle jobs as Jenkins keeps them, and its HTTP interface: make a job, start a build, abort it, read what it left.

The XML is that of Jenkins 1.514; newer ones read it too.
"""

import time
from dataclasses import dataclass
from xml.sax.saxutils import escape

import requests

ARTIFACTS, RESULTS = "bgdeploy-runs/**", "bgdeploy-runs/*/junit.xml"
PATIENCE = 600      # seconds for a build; the machine may be busy


@dataclass(frozen=True)
class Job:
    """:param steps: texts of its shell steps, in order; Jenkins runs each with `sh -xe`.
    :param parameters: triples (name, default, description).
    :param at_once: several builds may run at the same time.
    """

    about: str
    steps: tuple
    parameters: tuple = ()
    at_once: bool = False

    def xml(self):
        parameters = "".join(
            f"<hudson.model.StringParameterDefinition><name>{escape(name)}</name><description>{escape(about)}</description>"
            f"<defaultValue>{escape(default)}</defaultValue></hudson.model.StringParameterDefinition>"
            for name, default, about in self.parameters)
        asked = (f"<hudson.model.ParametersDefinitionProperty><parameterDefinitions>{parameters}</parameterDefinitions>"
                 "</hudson.model.ParametersDefinitionProperty>" if parameters else "")
        steps = "".join(f"<hudson.tasks.Shell><command>{escape(text)}</command></hudson.tasks.Shell>" for text in self.steps)
        return f"""<?xml version='1.0' encoding='UTF-8'?>
<project>
  <description>{escape(self.about)}</description>
  <properties>{asked}</properties>
  <scm class="hudson.scm.NullSCM"/>
  <canRoam>true</canRoam>
  <disabled>false</disabled>
  <triggers/>
  <concurrentBuild>{str(self.at_once).lower()}</concurrentBuild>
  <builders>{steps}</builders>
  <publishers>
    <hudson.tasks.ArtifactArchiver><artifacts>{ARTIFACTS}</artifacts><latestOnly>false</latestOnly>
      </hudson.tasks.ArtifactArchiver>
    <hudson.tasks.junit.JUnitResultArchiver><testResults>{RESULTS}</testResults><keepLongStdio>true</keepLongStdio>
      <testDataPublishers/></hudson.tasks.junit.JUnitResultArchiver>
  </publishers>
  <buildWrappers/>
</project>"""


def samples(project):
    """The jobs that a person finds in a new one: {name: Job}. They call the same steps as jenkins/Jenkinsfile."""
    version = ("VERSION", "", "VERSION or VERSION-RELEASE, such as 2.0.0; always typed, never 'the newest'")
    wait = ("WAIT", "", "yes: wait where somebody else deploys, instead of being refused")
    step = f"{project}/jenkins/steps"
    return {
        "deliver": Job("From source to both stacks: publish, deploy green, deploy blue.",
                       (f"{step}/test.sh", f"{step}/publish.sh api web", f"{step}/run.sh check", f"{step}/deploy.sh green",
                        f"{step}/deploy.sh blue"), (version, wait)),
        "deploy": Job("Steps 1 to 4 on one stack.", (f'{step}/deploy.sh "$STACK"',),
                      (("STACK", "green", "green or blue"), version, wait), at_once=True),
        "answer": Job("Answers what a run asked (exit code 7), and carries it on.", (f"{step}/answer.sh",),
                      (("CHOICE", "", "approve, retry, exclude, proceed, repeat, done or stop"),
                       ("RUN", "", "empty: the open one")))}


class Jenkins:
    """One that runs, spoken to as its administrator. :param door: jenkins.Door."""

    def __init__(self, door):
        self.url = door.url
        self.session = requests.Session()
        self.session.auth, self.session.trust_env = (door.user, door.password), False       # no .netrc, no proxy

    def answers(self):
        """Whether it is ready; while it starts it answers 503."""
        try:
            return self.session.get(f"{self.url}/api/json", timeout=30).status_code == 200
        except requests.RequestException:
            return False

    def make(self, name, job):
        """A job of this name, as described; one that is there already is changed."""
        there = self.session.get(f"{self.url}/job/{name}/config.xml", timeout=30).status_code == 200
        path = f"/job/{name}/config.xml" if there else f"/createItem?name={name}"
        self.post(path, job.xml().encode(), {"Content-Type": "text/xml"})

    def start(self, name, **parameters):
        """Start a build. :returns: Build, which may have to wait in the queue at first."""
        number = self.json(f"/job/{name}")["nextBuildNumber"]
        self.post(f"/job/{name}/buildWithParameters" if parameters else f"/job/{name}/build", parameters)
        return Build(self, f"/job/{name}/{number}")

    def json(self, path):
        answer = self.session.get(f"{self.url}{path}/api/json", timeout=60)
        answer.raise_for_status()
        return answer.json()

    def text(self, path):
        answer = self.session.get(f"{self.url}{path}", timeout=60)
        answer.raise_for_status()
        answer.encoding = "utf-8"
        return answer.text

    def post(self, path, sent, headers=()):
        """Every change carries a crumb, so that no page in the person's browser can make it."""
        crumb = self.json("/crumbIssuer")
        headers = {**dict(headers), crumb["crumbRequestField"]: crumb["crumb"]}
        answer = self.session.post(f"{self.url}{path}", sent, headers=headers, timeout=60, allow_redirects=False)
        answer.raise_for_status()
        return answer


@dataclass(frozen=True)
class Build:
    """One build of a job."""

    jenkins: Jenkins
    path: str

    @property
    def url(self):
        """What the build itself has as BUILD_URL."""
        return f"{self.jenkins.url}{self.path}/"

    def ended(self, limit=PATIENCE):
        """Wait for its end. :returns: SUCCESS, UNSTABLE, FAILURE or ABORTED. :raises TimeoutError: at the limit, in seconds."""
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if result := self.result():
                return result
            time.sleep(0.3)
        raise TimeoutError(f"{self.path} has not ended after {limit} s")

    def result(self):
        """As above; None while it waits or runs."""
        answer = self.jenkins.session.get(f"{self.jenkins.url}{self.path}/api/json", timeout=60)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return None if answer.json()["building"] else answer.json()["result"]

    def abort(self):
        self.jenkins.post(f"{self.path}/stop", {})

    def console(self):
        return self.jenkins.text(f"{self.path}/consoleText")

    def artifacts(self):
        return [one["relativePath"] for one in self.jenkins.json(self.path)["artifacts"]]

    def artifact(self, path):
        return self.jenkins.text(f"{self.path}/artifact/{path}")

    def cases(self):
        """What its JUnit page shows: {case: status (PASSED, FIXED, FAILED, REGRESSION, SKIPPED)} with the message beside it."""
        suites = self.jenkins.json(f"{self.path}/testReport")["suites"]
        return {case["name"]: (case["status"], case.get("errorDetails") or "") for suite in suites for case in suite["cases"]}

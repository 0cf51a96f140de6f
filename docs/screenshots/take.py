"""Start the deployment from Prefect's UI in a headless browser, wait for its end, and take the pictures of the documentation.

Needs `make stack`, a first `make run`, chromium with chromedriver, and Selenium, which is no dependency of the project:

    python -m venv /tmp/selenium && /tmp/selenium/bin/pip install selenium
    /tmp/selenium/bin/python docs/screenshots/take.py --learning-rate 0.0002
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[2]
KEY = ROOT / ".acclimate" / "stack" / "key"
BROWSER_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PAGE_TIMEOUT_S = 60
SETTLE_S = 4  # animations and late requests of the pages


class Browser:
    """A headless chromium that clicks by the text that a person would click on."""

    def __init__(self, directory: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
        for flag in BROWSER_FLAGS:
            options.add_argument(flag)
        self._directory = directory
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))

    def open(self, url: str, *, width: int = 1440, height: int = 1000) -> None:
        """Load a page and let it settle."""
        self.driver.set_window_size(width, height)
        self.driver.get(url)
        time.sleep(SETTLE_S)

    def find(self, xpath: str) -> WebElement:
        """Wait for what can be clicked."""
        return WebDriverWait(self.driver, PAGE_TIMEOUT_S).until(expected_conditions.element_to_be_clickable((By.XPATH, xpath)))

    def click(self, xpath: str) -> None:
        """Scroll to it and click."""
        element = self.find(xpath)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        time.sleep(1)

    def save(self, name: str) -> None:
        """Write a PNG of what is seen."""
        path = self._directory / f"{name}.png"
        self.driver.save_screenshot(str(path))
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """JSON from a server, asked with the key: POST with a body, GET without."""
    data = None if body is None else json.dumps(body).encode()
    authorization = f"Basic {base64.b64encode(KEY.read_bytes().strip()).decode()}"
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", "Authorization": authorization})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def log_in(browser: Browser, prefect: str, mlflow: str) -> None:
    """Give Prefect's page the key as a person does, and MLflow's as the browser's own window for a password does."""
    key = KEY.read_text(encoding="utf-8").strip()
    browser.open(f"{prefect}/login", height=600)
    browser.save("prefect-login")
    browser.find("//input[@type='password']").send_keys(key)
    browser.click("//button[normalize-space()='Login']")
    browser.open(mlflow.replace("://", f"://{key}@"))


def start_from_ui(browser: Browser, prefect: str, learning_rate: str) -> str:
    """Deployments, default, Run, Custom run, another learning rate, Submit. Returns the id of the new flow run."""
    deployment = ask(f"{prefect}/api/deployments/filter", {"deployments": {"name": {"any_": ["default"]}}})[0]
    of_deployment = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    before = {run["id"] for run in ask(f"{prefect}/api/flow_runs/filter", of_deployment)}
    browser.open(f"{prefect}/deployments/deployment/{deployment['id']}")
    browser.save("prefect-deployment")
    browser.click("//button[normalize-space()='Run']")
    browser.click("//button[normalize-space()='Custom run']")
    field = "//label[contains(., 'Fine-tuning: learning rate')]/ancestor::*[.//button[normalize-space()='float']][1]"
    browser.click(f"{field}//button[normalize-space()='float']")
    browser.find(f"{field}//input").send_keys(learning_rate)
    time.sleep(1)
    browser.save("prefect-form")
    browser.click("//button[@type='submit']")
    deadline = time.monotonic() + PAGE_TIMEOUT_S
    while time.monotonic() < deadline:
        new = [run["id"] for run in ask(f"{prefect}/api/flow_runs/filter", of_deployment) if run["id"] not in before]
        if new:
            return str(new[0])
        time.sleep(1)
    raise SystemExit("the form was submitted, but no flow run came of it")


def wait_for_end(prefect: str, run_id: str, timeout_s: float) -> dict[str, Any]:
    """The flow run once it has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        run: dict[str, Any] = ask(f"{prefect}/api/flow_runs/{run_id}")
        if run["state_type"] in ENDED:
            return run
        time.sleep(2)
    raise SystemExit(f"flow run {run_id} did not end within {timeout_s:.0f} s")


def take_prefect(browser: Browser, prefect: str, run_id: str) -> None:
    """The run's graph and its summary."""
    browser.open(f"{prefect}/runs/flow-run/{run_id}", height=1100)
    browser.save("prefect-run")
    artifacts = ask(f"{prefect}/api/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    for artifact in artifacts[:1]:
        browser.open(f"{prefect}/artifacts/artifact/{artifact['id']}", height=1100)
        browser.save("prefect-summary")


def take_mlflow(browser: Browser, mlflow: str, experiment: str) -> None:
    """The runs, and the first registered model."""
    found = ask(f"{mlflow}/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")["experiment"]
    browser.open(f"{mlflow}/#/experiments/{found['experiment_id']}/runs", width=1600)
    browser.click("//button[@data-component-id='mlflow.assistant.chat_panel.close']")  # opens itself at the first visit
    browser.click("//*[normalize-space(text())='Model training']")
    browser.click("//button[contains(@data-component-id, 'runnamecellrenderer')]")  # the stages under their pipeline run
    time.sleep(SETTLE_S)
    browser.save("mlflow-runs")
    models = ask(f"{mlflow}/api/2.0/mlflow/registered-models/search").get("registered_models", [])
    for model in models[:1]:
        browser.open(f"{mlflow}/#/models/{model['name']}", width=1600, height=1150)
        browser.save("mlflow-model")


def take_files(browser: Browser) -> None:
    """What the pipeline leaves as pages on disk."""
    for name, path, height in (("data-docs", "reports/data_docs/index.html", 600), ("report", "artifacts/report/report.html", 1600)):
        if (ROOT / path).exists():
            browser.open((ROOT / path).as_uri(), height=height)
            browser.save(name)
        else:
            print(f"{path} is not there; {name}.png is left as it is")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prefect", default="http://127.0.0.1:4200")
    parser.add_argument("--mlflow", default="http://127.0.0.1:5000")
    parser.add_argument("--experiment", default="acclimate")
    parser.add_argument("--learning-rate", default="0.0002", help="as a decimal: the form takes no exponent")
    parser.add_argument("--timeout-s", type=float, default=3600)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    browser = Browser(arguments.out)
    try:
        log_in(browser, arguments.prefect, arguments.mlflow)
        run_id = start_from_ui(browser, arguments.prefect, arguments.learning_rate)
        wanted = ask(f"{arguments.prefect}/api/flow_runs/{run_id}")["parameters"]["overrides"].get("finetune_learning_rate")
        if wanted != float(arguments.learning_rate):
            raise SystemExit(f"the form was given {arguments.learning_rate}, the run got {wanted}")
        run = wait_for_end(arguments.prefect, run_id, arguments.timeout_s)
        print(f"flow run {run['name']}: {run['state_name']}, {run['total_run_time']:.0f} s, parameters {json.dumps(run['parameters'])}")
        take_prefect(browser, arguments.prefect, run_id)
        take_mlflow(browser, arguments.mlflow, arguments.experiment)
        take_files(browser)
    finally:
        browser.driver.quit()
    return 0 if run["state_type"] == "COMPLETED" else 1


if __name__ == "__main__":
    sys.exit(main())

"""How does aigateway-py talk to Tramontane?  Jobs, replays and the webhook secret; chats are OpenAI's client's.

export OPENAI_BASE_URL=http://127.0.0.1:8700/v1 OPENAI_API_KEY=sk-tram-...
python examples/aigateway_jobs.py
"""

import os

import httpx2
from aigateway import AIgateway

ROOT = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]


def submit(text: str) -> str:
    """The new job's id."""
    body = {"messages": [{"role": "user", "content": text}]}
    answer = httpx2.post(f"{ROOT}/jobs", json=body, headers={"Authorization": f"Bearer {KEY}"})
    job_id: str = answer.raise_for_status().json()["id"]
    return job_id


def main() -> None:
    with AIgateway(api_key=KEY, base_url=ROOT.removesuffix("/v1")) as client:
        job = client.jobs.wait(submit("What is the capital of France?"), poll_interval_seconds=0.1)
        print(job.status, job.result["choices"][0]["message"]["content"])
        replay = client.replays.run(source_request_id=job.id, target_model="tram-demo")
        print(replay["object"], replay["source_model"], "to", replay["target_model"])
        print(client.webhook_secret.get()["secret"][:6])
        print([model["id"] for model in client.models.list() if model["served"]])


if __name__ == "__main__":
    main()

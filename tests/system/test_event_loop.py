"""Blocking calls of Google's SDK stay in their threads."""

import threading

from support.stack import MODEL, Stack, say


def test_other_requests_go_on_while_the_sdk_waits_in_its_thread(sdk_stack: Stack) -> None:
    """Five answers are held back in the SDK's blocking calls; everything else is served."""
    gate = f"slow-{sdk_stack.account()}"
    slow_account = sdk_stack.account("1")
    slow_answers: list[str | None] = []

    def ask_slowly() -> None:
        answer = sdk_stack.openai().chat.completions.create(
            model=MODEL,
            messages=say(f"[[sim tokens=3 thoughts=0 gate={gate}]]"),
            max_tokens=10,
            user=slow_account,
        )
        slow_answers.append(answer.choices[0].message.content)

    threads = [threading.Thread(target=ask_slowly) for _ in range(5)]
    for thread in threads:
        thread.start()
    sdk_stack.wait_at_gate(gate, streams=5)

    quick = sdk_stack.openai().chat.completions.create(
        model=MODEL, messages=say("hi"), user=sdk_stack.account("1")
    )
    metrics = sdk_stack.http(sdk_stack.proxy.url, None).get("/metrics").json()

    assert quick.choices[0].finish_reason == "stop"
    assert metrics["http"]["in_flight"] == 6
    assert slow_answers == []
    sdk_stack.open_gate(gate)
    for thread in threads:
        thread.join(30)
    assert len(slow_answers) == 5

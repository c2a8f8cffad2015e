# What LiteLLM's SDK does with an OpenAI-compatible provider; prints one JSON object. Arguments: base URL, API key, model, embedding model.
import asyncio
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

litellm.suppress_debug_info = True
base, key, model, embedding_model = sys.argv[1:5]
common = {"model": f"openai/{model}", "api_base": base, "api_key": key, "num_retries": 0}
messages = [{"role": "user", "content": "hi"}]


def failure(**fields):
    try:
        litellm.completion(**{**common, "messages": messages, **fields})
        return "none"
    except Exception as error:  # the class is what is asked for
        return type(error).__name__


async def health():
    return await litellm.ahealth_check({**common, "messages": messages, "max_tokens": 1}, mode="chat")


def main():
    whole = litellm.completion(**common, messages=messages, max_tokens=16, user="their-user", metadata={"a": "b"})
    chunks = list(
        litellm.completion(**common, messages=messages, stream=True, stream_options={"include_usage": True})
    )
    plain = list(litellm.completion(**common, messages=messages, stream=True))
    embedding = litellm.embedding(model=f"openai/{embedding_model}", input=["hello"], api_base=base, api_key=key)
    text = lambda parts: "".join((part.choices[0].delta.content or "") for part in parts if part.choices)
    usages = [part.usage for part in chunks if getattr(part, "usage", None)]
    checked = asyncio.run(health())
    print(
        json.dumps(
            {
                "whole": whole.choices[0].message.content,
                "usage": whole.usage.total_tokens,
                "streamed": text(chunks),
                "streamed_usage": usages[-1].total_tokens if usages else None,
                "plain": text(plain),
                "embedding": len(embedding.data),
                "health_error": checked.get("error"),
                "wrong_key": failure(api_key="sk-wrong"),
                "wrong_model": failure(model="openai/nobody"),
            }
        )
    )


main()

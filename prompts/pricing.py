"""What a call costs in US dollars, by the `genai-prices` list; an unknown price is None, never a guess."""

from genai_prices import Usage, calc_price

from prompts.providers import OPENAI, Endpoint


def dollars(endpoint: Endpoint, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float | None:
    """Dollars for these tokens; `cached_tokens` are those of the prompt that the provider had cached."""
    if endpoint.prices is not None:
        return (prompt_tokens * endpoint.prices[0] + completion_tokens * endpoint.prices[1]) / 1e6
    usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens, cache_read_tokens=cached_tokens)
    try:
        price = calc_price(usage, endpoint.model, provider_api_url=endpoint.base_url or OPENAI)
    except LookupError:
        return None
    return float(price.total_price)

"""Every error of an API of FastAPI as a `edgekd.serve.problems.Problem`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from edgekd.serve import problems
from edgekd.serve.guard import problem_response
from edgekd.serve.problems import Problem

# What pydantic finds, as this API says it.
_RULES = {
    "missing": "must be given",
    "less_than_equal": "must be at most {le}",
    "greater_than_equal": "must be at least {ge}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} letters",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "model_attributes_type": "must be an object",
}


def _said(error: dict[str, Any]) -> str:
    rule = _RULES.get(error["type"])
    if rule is not None:
        return rule.format(**error.get("ctx", {}))
    message: str = error["msg"]
    return message if message.startswith("must ") else f"must be as described: {message}"


def add_error_answers(app: FastAPI, count: Callable[[str], None]) -> None:
    """Answer what routes raise; nothing of a request is quoted.

    Args:
        count: is told the code of each.
    """

    def answer(problem: Problem) -> JSONResponse:
        count(problem.code)
        return problem_response(problem)

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part != "body"]
        if first["type"] == "json_invalid":
            return answer(problems.invalid("the body must be JSON", code="invalid_json"))
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        param = place[0] if place else None
        # The value itself is not said: it may be a prompt, or no text that JSON can carry.
        subject = f"`{param}`" if param else "the body"
        message = f"{subject} {_said(first)}" if first["type"] != "said_twice" else first["msg"]
        return answer(problems.invalid(message, param, code))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # bytes that are no text, or nested too deeply
            return answer(problems.invalid("the body must be JSON", code="invalid_json"))
        known = {404: "not_found", 405: "method_not_allowed"}
        problem = Problem(
            error.status_code, str(error.detail), known.get(error.status_code, "invalid_request")
        )
        response = answer(problem)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> JSONResponse:
        return answer(Problem(500, "the server has a defect; its log has more", "internal_error"))

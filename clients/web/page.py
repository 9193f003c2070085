"""The page: a form on the left, the answer on the right; one `Page` a visit."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nicegui import ui

from clients.config import ClientConfig
from clients.predict import AsyncPredictClient
from clients.web.answers import Answer
from clients.web.form import ImageField, NumberField, Question, TextField, View
from clients.web.image_place import ImagePlace
from clients.web.model_list import ListedModel, list_models, task_of
from clients.web.parts import STYLE, show_answer, show_problem, show_times
from clients.web.problems import UNEXPECTED, Problem
from clients.web.timing import CallTime, TimedTransport
from clients.web.views import VIEWS
from protocol.errors import ServiceError

_ANY_VERSION = ""

_log = logging.getLogger(__name__)


@dataclass
class _Entries:
    """What a visitor has entered into the form of one model."""

    images: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    text: str = ""
    numbers: dict[str, float | None] = field(default_factory=dict)

    def question(self, model: str, version: str) -> Question:
        """Returns them as a question to a model; an empty version is the server's choice."""
        given = {name: number for name, number in self.numbers.items() if number is not None}
        exact = None if version == _ANY_VERSION else int(version)
        return Question(model, exact, dict(self.images), self.text, given)


class Page:
    """One visit of the page.

    Args:
        config: The model server to ask.
        models: Names of the models that it may serve.
    """

    def __init__(self, config: ClientConfig, models: Sequence[str]) -> None:
        self._config = config
        self._models = models
        self._listed: dict[str, ListedModel] = {}
        self._entries = _Entries()

    def show(self) -> None:
        """Builds the page; what the server serves is filled in as soon as the server tells."""
        ui.add_css(STYLE)
        ui.page_title("Models")
        with ui.element("div").classes("web-columns"):
            with ui.card().classes("web-card"):
                self._show_choice()
                self._form = ui.column().classes("web-wide")
                self._button = ui.button("Ask", on_click=self._on_ask).classes("web-wide")
            self._result = (
                ui.column().classes("web-wide").props("data-part=result aria-live=polite")
            )
        self._show_form()
        ui.timer(0, self._on_refresh, once=True)

    def _show_choice(self) -> None:
        with ui.row().classes("web-wide items-center justify-between no-wrap"):
            ui.label(f"Server {self._config.target}").classes("web-caption")
            ui.button("Refresh", on_click=self._on_refresh).props("flat dense")
        self._model = ui.select(
            list(self._models), value=self._models[0], label="Model", on_change=self._on_model
        ).classes("web-wide")
        self._version = ui.select(
            {_ANY_VERSION: "the server's choice"}, value=_ANY_VERSION, label="Version"
        ).classes("web-wide")
        self._state = ui.label().classes("web-caption").props("data-part=state")

    def _show_form(self) -> None:
        self._entries = _Entries()
        view = self._view
        self._form.clear()
        with self._form:
            ui.label(view.purpose).classes("web-caption")
            for images in view.images:
                self._show_images(images)
            if view.text is not None:
                self._show_text(view.text)
            for number in view.numbers:
                self._show_number(number)

    def _show_images(self, wanted: ImageField) -> None:
        entries = self._entries

        def take(files: tuple[bytes, ...]) -> None:
            entries.images[wanted.name] = files

        ImagePlace(wanted, take, lambda error: self._show_problem(Problem.of(error))).show()

    def _show_text(self, wanted: TextField) -> None:
        area = ui.textarea(wanted.label, placeholder=wanted.example).classes("web-wide")
        area.props("outlined stack-label").bind_value_to(self._entries, "text")

    def _show_number(self, wanted: NumberField) -> None:
        number = ui.number(
            wanted.label,
            placeholder="the model's own",
            min=wanted.lowest,
            max=wanted.highest,
            step=wanted.step,
        ).classes("web-wide")
        number.props("clearable stack-label").bind_value_to(self._entries.numbers, wanted.name)

    @property
    def _view(self) -> View:
        return VIEWS[task_of(self._model.value)]

    async def _on_refresh(self) -> None:
        """Asks the server again what it serves."""
        async with self._guarded():
            async with AsyncPredictClient(self._config) as client:
                found = await list_models(client, self._models)
            self._listed = {model.name: model for model in found}
            self._model.set_options({model.name: _choice(model) for model in found})
        self._show_versions()

    def _on_model(self) -> None:
        self._result.clear()
        self._version.set_value(_ANY_VERSION)
        self._show_form()
        self._show_versions()

    def _show_versions(self) -> None:
        listed = self._listed.get(self._model.value)
        available = () if listed is None else listed.available
        choices = {_ANY_VERSION: "the server's choice"} | {str(one): str(one) for one in available}
        chosen = self._version.value if self._version.value in choices else _ANY_VERSION
        self._version.set_options(choices, value=chosen)
        self._state.set_text("" if listed is None else listed.state)

    async def _on_ask(self) -> None:
        question = self._entries.question(self._model.value, self._version.value)
        transport = TimedTransport(self._config)
        try:
            async with self._guarded():
                answer = await self._view.ask(transport, question)
                self._show_result(question.model, answer, transport.calls)
        finally:
            await transport.close()

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """Empties the right side, and shows there what goes wrong in the meantime."""
        self._result.clear()
        self._button.disable()
        try:
            yield
        except ServiceError as error:
            self._show_problem(Problem.of(error))
        except Exception:
            _log.exception("cannot show an answer")
            self._show_problem(UNEXPECTED)
        finally:
            self._button.enable()

    def _show_result(self, model: str, answer: Answer, calls: Sequence[CallTime]) -> None:
        with self._result, ui.card().classes("web-card"):
            ui.label(model).classes("web-caption")
            show_answer(answer)
            show_times(calls)

    def _show_problem(self, problem: Problem) -> None:
        self._result.clear()
        with self._result:
            show_problem(problem)


def _choice(model: ListedModel) -> str:
    return model.name if model.versions else f"{model.name} ({model.state})"

"""A Django project in one file, with async views."""

import django
import server_flows as flows
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import railtracks as rt

settings.configure(SECRET_KEY="not secret", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[])
django.setup()


async def work(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await flows.answer(flows.WORK.ainvoke(10)), safe=False)


async def fail(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await flows.answer(flows.FAIL.ainvoke()), safe=False)


async def slow(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await flows.answer(flows.SLOW.ainvoke()), safe=False)


async def hang(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await flows.answer(flows.HANG.ainvoke()), safe=False)


urlpatterns = [path(view.__name__, view) for view in (work, fail, slow, hang)]
app = rt.asgi.with_lifespan(get_asgi_application(), grace=flows.GRACE)

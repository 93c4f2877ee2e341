"""The official CloudEvents SDK as a client of LTMC: URL, KEY, TOPIC. Publishes in all three modes and prints what is answered."""

import json
import sys
import urllib.error
import urllib.request

from cloudevents.conversion import to_json
from cloudevents.http import CloudEvent, to_binary, to_structured

url, key, topic = sys.argv[1:4]


def post(headers, body):
    headers = {**headers, "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/v1/events?topic={topic}", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            print(json.dumps({"status": answer.status, **json.loads(answer.read())}))
    except urllib.error.HTTPError as error:
        print(json.dumps({"status": error.code, **json.loads(error.read())}))


def event(id, **more):
    return CloudEvent({"type": "order.paid", "source": "/shop", "id": id, "partitionkey": "customer-7", **more}, {"n": int(id)})


post(*to_structured(event("1", dataschema="https://example.com/order.json")))
post(*to_binary(event("2", datacontenttype="application/json", hops="99", correlation="forged", replay="true", position="7")))
batch = [json.loads(to_json(event(id))) for id in ("3", "4")]
post({"content-type": "application/cloudevents-batch+json"}, json.dumps(batch).encode())
# A second time: it starts nothing more.
post(*to_structured(event("1", dataschema="https://example.com/order.json")))
post(*to_structured(event("5", dataschema="none")))

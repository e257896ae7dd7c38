"""The Python client against the real binary: one server over the sample documents for all tests."""

import base64
import contextlib
import io
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import unittest
import urllib.request

import openai

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = REPOSITORY / "examples" / "lumen-bikes" / "docs"
BINARY = os.environ["QUIPU_BIN"]
QUESTION = [{"role": "user", "content": "How long is the battery guaranteed?"}]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.data = tempfile.mkdtemp()
        subprocess.run([BINARY, "ingest", "--data", cls.data, DOCUMENTS], check=True, capture_output=True)
        address = f"127.0.0.1:{free_port()}"
        cls.url = f"http://{address}"
        cls.log = open(os.path.join(cls.data, "server.log"), "w+")
        cls.server = subprocess.Popen([BINARY, "serve", "--data", cls.data, "--addr", address], stderr=cls.log)
        cls.client = openai.OpenAI(base_url=cls.url + "/v1", api_key="none", timeout=120)
        for _ in range(600):
            try:
                with urllib.request.urlopen(cls.url + "/readyz") as r:
                    if r.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError("the server is not ready after a minute")

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.terminate()
        code = cls.server.wait(60)
        cls.log.close()
        shutil.rmtree(cls.data)
        assert code == 0, f"the server exited with {code}"

    def test_whole(self):
        answer = self.client.chat.completions.create(model="default", messages=QUESTION)
        message = answer.choices[0].message
        grounded = message.model_extra["quipu"]
        self.assertEqual(grounded["answer"], message.content)
        self.assertFalse(grounded["abstained"])
        self.assertIn("warranty.md", [c["file"] for c in grounded["citations"]])
        for c in grounded["citations"]:
            if c["file"].endswith(".md") and "|" not in c["quote"]:
                self.assertIn(c["quote"].replace("\n", " "), (DOCUMENTS / c["file"]).read_text().replace("**", "").replace("\n", " "))
        self.assertGreater(answer.usage.prompt_tokens, 0)

    def test_stream(self):
        text, grounded, finish, usage = "", None, None, None
        with self.client.chat.completions.create(
            model="default", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        ) as stream:
            for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    finish = choice.finish_reason or finish
                    grounded = (choice.delta.model_extra or {}).get("quipu") or grounded
        self.assertEqual(finish, "stop")
        self.assertEqual(grounded["answer"], text)
        self.assertRegex(text, r"2 years|two years")
        self.assertIn("warranty.md", [c["file"] for c in grounded["citations"]])
        for c in grounded["citations"]:
            self.assertTrue(text[c["answer_start"]:c["answer_end"]].strip())
        self.assertIsNotNone(usage)

    def test_abstains(self):
        answer = self.client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Can you recommend a good recipe for pancakes?"}]
        )
        grounded = answer.choices[0].message.model_extra["quipu"]
        self.assertTrue(grounded["abstained"])
        self.assertEqual(grounded["citations"], [])

    def test_plain(self):
        answer = self.client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8, temperature=0,
            extra_body={"quipu": {"grounded": False}},
        )
        self.assertTrue(answer.choices[0].message.content)
        self.assertNotIn("quipu", answer.choices[0].message.model_extra or {})

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as e:
            self.client.chat.completions.create(model="no-such-model", messages=QUESTION)
        self.assertEqual(e.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as e:
            self.client.chat.completions.create(model="default", messages=[])
        self.assertEqual(e.exception.param, "messages")
        with self.assertRaises(openai.BadRequestError) as e:
            self.client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": "word " * 20000}],
                extra_body={"quipu": {"grounded": False}},
            )
        self.assertEqual(e.exception.code, "context_length_exceeded")

    def test_embeddings(self):
        texts = ["The battery lasts two years.", "Bananas are yellow."]
        floats = self.client.embeddings.create(model="all-minilm-l6-v2", input=texts, encoding_format="float").data
        packed = self.client.embeddings.create(model="all-minilm-l6-v2", input=texts, encoding_format="base64").data
        self.assertEqual([len(e.embedding) for e in floats], [384, 384])
        for f, p in zip(floats, packed):
            unpacked = struct.unpack("<384f", base64.b64decode(p.embedding))
            for a, b in zip(f.embedding, unpacked):
                self.assertAlmostEqual(a, b, places=4)

    def test_models(self):
        ids = [m.id for m in self.client.models.list()]
        self.assertIn("all-minilm-l6-v2", ids)
        self.assertEqual(self.client.models.retrieve(ids[0]).id, ids[0])

    def test_readme(self):
        """The Python block of the README runs as it stands, but for the address."""
        block = re.search(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.S).group(1)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.replace("http://127.0.0.1:8080", self.url), "README.md", "exec"), {})
        self.assertTrue(printed.getvalue().strip())


class Report(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


if __name__ == "__main__":
    result = unittest.TextTestRunner(resultclass=Report, verbosity=2).run(unittest.defaultTestLoader.loadTestsFromTestCase(Client))
    print(f"{result.passed} passed, {len(result.failures) + len(result.errors)} failed")
    raise SystemExit(0 if result.wasSuccessful() else 1)

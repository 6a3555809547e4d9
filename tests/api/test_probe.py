import gzip, json, socket, http.client, io
import pytest
U=[{"role":"user","content":"hi"}]
def show(name, r):
    try: e=r.json().get("error"); 
    except Exception: e=None
    print(f"{name:34} {r.status_code} {e and (e['type'],e['code'],e['param'],e['message'][:110])} {'' if e else r.text[:150]!r}", flush=True)
def raw(api, data, half=False):
    s=socket.create_connection(("127.0.0.1",api.port),5); s.settimeout(8)
    try:
        s.sendall(data)
    except OSError as x: pass
    if half: s.shutdown(socket.SHUT_WR)
    try:
        r=http.client.HTTPResponse(s); r.begin(); return r.status, r.read()[:300]
    except Exception as x: return repr(x)
    finally: s.close()
def test_probe(api, database_kind):
    print("=====",database_kind)
    h=api.http
    for q in ["limit=0","limit=x","limit=1000","order=up","state=weird","after="+"z"*65,"after=%00","after=junk","created_after=x",f"created_after={10**30}","created_after=-1",f"created_after={2**62}","created_before=9223372036854775807","model=%00","model="+"m"*201,"metadata[]=x","metadata[a%00]=1","metadata[a%22b]=1","metadata[%22]=1","metadata[$]=x","metadata[a]=%00","metadata[a=1","metadata[a.b]=1","metadata[%27]=1","metadata[\\]=1","metadata[0]=1","metadata[%ED%A0%80]=1","junk=1","state=queued&state=failed","metadata[a]=%F0%9F%A6%84","limit=%00"]:
        show("jobs?"+q[:40], h.get("/v1/jobs?"+q))
    show("2000 filters", h.get("/v1/jobs?"+"&".join(f"metadata[a{n}]=1" for n in range(2000))))
    show("20 filters", h.get("/v1/jobs?"+"&".join(f"metadata[a{n}]=1" for n in range(17))))
    for path in ["/v1/jobs/","/v1/conversations/","/v1/replays/","/v1/webhook_deliveries/","/v1/models/","/v1/chat/completions/"]:
        for x in ["nope","%00","job_%00","%ff","..%2f..%2fetc","a"*10000,"%F0%9F%A6%84","%27%20OR%201=1--","","chatcmpl-%00","a%0d%0ab","%ED%A0%80"]:
            show(path+x[:20], h.get(path+x))
    for x in ["nope","%00","%ff"]:
        show("DELETE job "+x, h.delete("/v1/jobs/"+x)); show("events "+x, h.get(f"/v1/jobs/{x}/events")); show("messages "+x, h.get(f"/v1/chat/completions/{x}/messages")); show("cancel "+x, h.post(f"/v1/chat/completions/{x}/cancel"))
        show("DELETE compl "+x, h.delete("/v1/chat/completions/"+x)); show("POST compl "+x, h.post("/v1/chat/completions/"+x, json={"metadata":{}}))
    for x in ["zz","1","1-","-1","1-1-1","999999999999-1","1-99999999999999999999","0-0"," 1-1","1-٣", "5-5"]:
        try: show("last "+x, h.get(f"/v1/jobs/{api.job_id}/events",headers={"Last-Event-ID":x.encode()},timeout=4))
        except Exception as e: print("last",x,repr(e)[:60])
    for x in ["a%00","zz"]:
        show("last? "+x, h.get(f"/v1/jobs/{api.job_id}/events?last_event_id={x}",timeout=4))
    for m in ["PUT","PATCH","HEAD","OPTIONS","TRACE","FROB"]:
        try: show(m+" /v1/jobs", h.request(m,"/v1/jobs"))
        except Exception as e: print(m,repr(e))
    show("HEAD job", h.head("/v1/jobs/"+api.job_id)); show("slash", h.get("/v1/jobs/")); show("root", h.get("/")); show("GET chat", h.get("/v1/chat/completions?limit=x")); show("docs", h.get("/v1"))
    for a in ["","Bearer","Bearer ","Basic xx","Bearer sk-nope","bearer  ","Bearer "+"k"*60000,"Bearer \xff".encode("latin-1"),"Bearer a b"]:
        show("auth "+str(a)[:20], h.get("/v1/jobs",headers={"Authorization":a}))
    P="/v1/jobs"
    K=b"Authorization: Bearer sk-tram-for-the-tests-0123456789\r\nHost: x\r\n"
    print("100K header", raw(api,b"GET /v1/jobs HTTP/1.1\r\n"+K+b"X-A: "+b"a"*100_000+b"\r\n\r\n"))
    print("5M header", raw(api,b"GET /v1/jobs HTTP/1.1\r\n"+K+b"X-A: "+b"a"*5_000_000+b"\r\n\r\n"))
    print("20k headers", raw(api,b"GET /v1/jobs HTTP/1.1\r\n"+K+b"".join(b"X-%d: a\r\n"%n for n in range(20000))+b"\r\n"))
    print("long url", raw(api,b"GET /v1/jobs?"+b"a"*200_000+b" HTTP/1.1\r\n"+K+b"\r\n"))
    print("bad version", raw(api,b"GET /v1/jobs HTTP/9.1\r\n"+K+b"\r\n"))
    print("no host", raw(api,b"GET /v1/jobs HTTP/1.1\r\nAuthorization: Bearer sk-tram-for-the-tests-0123456789\r\n\r\n"))
    print("garbage", raw(api,b"\x00\x01\x02\r\n\r\n"))
    print("bad chunk", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"))
    print("neg length", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Content-Length: -5\r\n\r\n{}"))
    print("two lengths", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"))
    print("both", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"))
    print("breaks off", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Content-Length: 100\r\n\r\n{\"messages\"",half=True))
    print("expect", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"))
    print("huge length", raw(api,b"POST /v1/jobs HTTP/1.1\r\n"+K+b"Content-Length: 99999999999999999999999\r\n\r\n{}"))
    print("nul path", raw(api,b"GET /v1/jobs/\x00 HTTP/1.1\r\n"+K+b"\r\n"))
    print("abs url", raw(api,b"GET http://evil/v1/jobs/nope HTTP/1.1\r\n"+K+b"\r\n"))
    print("CONNECT", raw(api,b"CONNECT evil:443 HTTP/1.1\r\n"+K+b"\r\n"))
    print("upgrade ws", raw(api,b"GET /v1/jobs/nope HTTP/1.1\r\n"+K+b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"))
    print("upgrade h2c", raw(api,b"GET /v1/jobs/nope HTTP/1.1\r\n"+K+b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"))
    bodies={"null":b"null","str":b'"x"',"num":b"1","bom":b"\xef\xbb\xbf{}","utf16":json.dumps({"messages":U}).encode("utf-16"),"gzip":gzip.compress(json.dumps({"messages":U}).encode()),"trunc":b'{"messages":[{"role":',"nan":b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',"inf":b'{"messages":[{"role":"user","content":"x"}],"temperature":Infinity}',"1e999":b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',"dup":b'{"messages":[{"role":"user","content":"x"}],"messages":"x"}',"deep":b"["*100000+b"]"*100000,"deep obj":b'{"a":'*100000+b"1"+b"}"*100000,"1e5":json.dumps({"messages":[{"role":"user","content":""}]*100000}).encode(),"surr":b'{"messages":[{"role":"user","content":"\\ud800"}]}',"int":b'{"messages":[{"role":"user","content":"x"}],"seed":99999999999999999999999999}',"max 1e400": b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1e400}',"comment":b'{/*x*/}', "trail": b'{} {}'}
    for n,b in bodies.items(): show("body "+n, h.post(P,content=b))
    show("gzip ce", h.post(P,content=bodies["gzip"],headers={"Content-Encoding":"gzip"}))
    def f(name,**kw): show(name,h.post(P,json={"messages":U,**kw}))
    for kw in [dict(messages=None),dict(messages={}),dict(messages=["x"]),dict(messages=[{}]),dict(messages=[{"role":"robot","content":"x"}]),dict(messages=[{"role":"user"}]),dict(messages=[{"role":"user","content":5}]),dict(messages=[{"role":"user","content":None}]),dict(messages=[{"role":"user","content":[]}]),dict(messages=[{"role":"user","content":[{"type":"audio"}]}]),dict(messages=[{"role":"user","content":[{"type":"text"}]}]),dict(messages=[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}]),dict(messages=[{"role":"tool","content":"x"}]),dict(messages=[{"role":"assistant"}]),dict(messages=[{"role":"assistant","tool_calls":[]}]),dict(messages=[{"role":"assistant","tool_calls":[{"id":"x"}]}]),dict(messages=[{"role":"user","content":"x","extra":1}]),dict(messages=[{"role":"user","content":"a\0b"}]),
      dict(messages=[{"role":["user"],"content":"x"}]), dict(messages=[{"role":"assistant","content":"x"}]), dict(messages=[{"role":"tool","content":"x","tool_call_id":"nope"}]), dict(messages=[{"role":"assistant","content":None,"tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"{not json"}}]},{"role":"user","content":"x"}]),
      dict(temperature="hot"),dict(temperature=True),dict(temperature=-1),dict(top_p=0),dict(top_p=2),dict(n=0),dict(n=99),dict(n=1.5),dict(n="2"),dict(max_tokens=0),dict(max_tokens=-1),dict(max_tokens=100000),dict(max_tokens=1.5),dict(max_completion_tokens=10**18),dict(stop=["a"]*17),dict(stop=5),dict(stop=[5]),dict(stop=""),dict(stop=[""]),dict(stop="x"*100000),dict(presence_penalty=3),dict(logprobs="yes"),dict(logprobs=True,top_logprobs=21),dict(top_logprobs=2),dict(stream="yes"),dict(stream=True),dict(stream_options={}),dict(stream_options={"include_usage":True}),dict(tools=[]),dict(tools=[{"type":"function","function":{"name":"a b"}}]),dict(tools=[{"type":"x"}]),dict(tools=[{"type":"function","function":{"name":"f"}}]*129),dict(tool_choice="auto"),dict(tool_choice="required"),dict(tool_choice="some"),dict(tools=[{"type":"function","function":{"name":"f"}}],tool_choice={"type":"function","function":{"name":"g"}}),dict(tools=[{"type":"function","function":{"name":"f","parameters":{"type":"nonsense"}}}]),dict(tools=[{"type":"function","function":{"name":"f","parameters":5}}]),dict(response_format={"type":"xml"}),dict(response_format={}),dict(response_format={"type":"json_schema"}),dict(response_format={"type":"json_schema","json_schema":{"name":"x","schema":{"type":"nonsense"}}}),dict(response_format={"type":"json_schema","json_schema":{"name":"x","schema":5}}),dict(metadata={"a":1}),dict(metadata={"k"*65:"x"}),dict(metadata={"k":"v"*513}),dict(metadata={str(i):"" for i in range(17)}),dict(metadata={"a\0":"b"}),dict(metadata=[]),dict(logit_bias={"1":5}),dict(foo=1),dict(model=5),dict(model=""),dict(model="gpt-9"),dict(model="x"*100000),dict(model="casperhansen/mistral-small-24b-instruct-2501-awq"),dict(conversation_id="conv_x"),dict(conversation_id=5),dict(conversation_id="x"*100000),dict(user=5),dict(store="no"),dict(background="x"),dict(webhook_url="ftp://x"),dict(webhook_url="http://"),dict(webhook_url="x"),dict(webhook_url=5),dict(webhook_url="http://u:p@example.com/"),dict(webhook_url="http://example.com/"+"a"*3000),dict(webhook_url="http://169.254.169.254/"),dict(webhook_url="http://exa mple.com/"),dict(webhook_url="http://[::1"),dict(webhook_url="http://example.com:99999/"),dict(deadline=5),dict(deadline=10**15),dict(deadline=10**30),dict(deadline=1.5),dict(deadline="soon"),dict(deadline=True),dict(deadline=-1),dict(messages=[{"role":"user","content":"word "*20000}]),dict(messages=[{"role":"user","content":"a"*(5<<20)}]), dict(max_tokens=8192)]:
        f(str(kw)[:32],**kw)
    R="/v1/replays"
    for b in [{},{"source_request_id":"job_x"},{"source_request_id":"x"*100000},{"source_request_id":5},{"source_request_id":"a","source_conversation_id":"b"},{"source_conversation_id":"conv_x"},{"source_request_id":api.job_id},{"source_request_id":"a\0"},{"source_request_id":"a","overrides":5},{"source_request_id":"a","x":5}]:
        show("replay "+str(b)[:40], h.post(R,json=b))
    for k in ["","x"*256,"ok","a\u00e9".encode("latin-1")]:
        show("idem "+str(k)[:10], h.post(P,json={"messages":U},headers={"Idempotency-Key":k}))
    show("idem 2", h.post(P,json={"messages":U,"n":2},headers={"Idempotency-Key":"ok"}))
    show("starting", h.get(f"/v1/chat/completions/{api.job_id}?stream=maybe")); show("starting", h.get(f"/v1/chat/completions/{api.job_id}?starting_after=-1"));show("starting", h.get(f"/v1/chat/completions/{api.job_id}?starting_after={10**40}"));show("del open", h.delete(f"/v1/chat/completions/{api.job_id}"));show("upd", h.post(f"/v1/chat/completions/{api.job_id}",json={"metadata":5}));show("upd", h.post(f"/v1/chat/completions/{api.job_id}",json={}))
    show("msgs after", h.get(f"/v1/chat/completions/{api.job_id}/messages?after=%00"))
    show("openapi", h.get("/openapi.json"))
    print("ERRORS", [l[:1500] for l in api.log.read_text().splitlines() if '"error"' in l or "Traceback" in l or "WARNING" in l])

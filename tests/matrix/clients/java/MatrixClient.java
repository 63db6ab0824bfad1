// grpc-java's client of the matrix: MatrixClient netty|okhttp TARGET [--tls CA] CASE...  (grpc_rows.py says what each case is)

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

final class MatrixClient {
  // Messages are bytes as they are.
  private static final MethodDescriptor.Marshaller<byte[]> RAW =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
          return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream stream) {
          try {
            return stream.readAllBytes();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        }
      };

  private final ManagedChannel channel;

  private MatrixClient(ManagedChannel channel) {
    this.channel = channel;
  }

  public static void main(String[] arguments) throws Exception {
    int at = 2;
    ChannelCredentials credentials = InsecureChannelCredentials.create();
    if (arguments[at].equals("--tls")) {
      credentials = TlsChannelCredentials.newBuilder().trustManager(new File(arguments[at + 1])).build();
      at += 2;
    }
    ManagedChannelBuilder<?> builder =
        arguments[0].equals("netty")
            ? NettyChannelBuilder.forTarget(arguments[1], credentials)
            : OkHttpChannelBuilder.forTarget(arguments[1], credentials);
    // Both take less than ten seconds for ten.
    ManagedChannel channel =
        builder
            .maxInboundMessageSize(Integer.MAX_VALUE)
            .maxInboundMetadataSize(64 << 10)
            .proxyDetector(address -> null)
            .keepAliveTime(10, TimeUnit.SECONDS)
            .keepAliveTimeout(5, TimeUnit.SECONDS)
            .keepAliveWithoutCalls(true)
            .build();
    MatrixClient client = new MatrixClient(channel);
    for (String name : Arrays.asList(arguments).subList(at, arguments.length)) {
      String said;
      try {
        said = client.play(name);
      } catch (StatusRuntimeException error) {
        said = "failed with " + code(error.getStatus()) + " " + error.getStatus().getDescription();
      }
      System.out.println(name + ": " + said);
    }
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  private String play(String name) throws Exception {
    switch (name) {
      case "unary": return unary();
      case "down": return down();
      case "up": return up();
      case "both": return both();
      case "large": return large();
      case "metadata": return metadata();
      case "cancel": return cancel();
      case "deadline": return deadline();
      case "status": return code(fails("Fail", 30000)) + " " + fails("Fail", 30000).getDescription();
      case "unimplemented": return code(fails("Nothing", 30000));
      case "compressed": return compressed();
      case "health": return HexFormat.of().formatHex(call(channel, "/grpc.health.v1.Health/Check", new byte[0], options()));
      case "reflection": return reflection();
      case "keepalive": return keepalive();
      case "pinged": return pinged();
      default: return "no such case";
    }
  }

  private String unary() {
    int echoed = 0;
    Set<String> servers = new HashSet<>();
    for (int number = 0; number < 30; number++) {
      Captured captured = new Captured();
      echoed += Arrays.equals(call(captured.on(channel), "Echo", block(number, 100), options()), block(number, 100)) ? 1 : 0;
      servers.add(captured.header("x-server"));
    }
    System.out.println("# " + servers.size() + " servers");
    return echoed + " echoed";
  }

  private String down() throws Exception {
    MethodDescriptor<byte[], byte[]> method = method("Down", MethodDescriptor.MethodType.SERVER_STREAMING);
    Iterator<byte[]> messages = ClientCalls.blockingServerStreamingCall(channel, method, options(), "1000 1024".getBytes());
    int count = 0;
    long size = 0;
    MessageDigest sum = MessageDigest.getInstance("SHA-256");
    while (messages.hasNext()) {
      byte[] message = messages.next();
      count++;
      size += message.length;
      sum.update(message);
    }
    return count + " messages, " + size + " bytes, " + HexFormat.of().formatHex(sum.digest()).substring(0, 16);
  }

  private String up() throws Exception {
    BothWays call = new BothWays("Up", MethodDescriptor.MethodType.CLIENT_STREAMING, channel);
    for (int number = 0; number < 1000; number++) call.requests.onNext(block(number, 1024));
    call.requests.onCompleted();
    return new String(call.next());
  }

  private String both() throws Exception {
    BothWays call = new BothWays("Both", MethodDescriptor.MethodType.BIDI_STREAMING, channel);
    int echoed = 0;
    for (int number = 0; number < 200; number++) {
      echoed += Arrays.equals(call.exchange(block(number, 50)), block(number, 50)) ? 1 : 0;
    }
    call.end();
    return echoed + " echoed";
  }

  private String large() {
    byte[] message = block(7, 50 << 20);
    byte[] answer = call(channel, "Echo", message, options());
    return answer.length + (Arrays.equals(answer, message) ? " echoed" : " changed");
  }

  private String metadata() {
    Metadata sent = new Metadata();
    sent.put(key("x-echo"), "m".repeat(8192));
    Captured captured = new Captured();
    call(captured.on(ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(sent))), "Echo",
        "x".getBytes(), options());
    return captured.header("x-echo").length() + " in headers, "
        + captured.trailers.get().get(key("x-echo-trailer")).length() + " in trailers";
  }

  private String cancel() throws Exception {
    String id = UUID.randomUUID().toString();
    Metadata sent = new Metadata();
    sent.put(key("x-id"), id);
    BothWays call =
        new BothWays("Both", MethodDescriptor.MethodType.BIDI_STREAMING,
            ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(sent)));
    if (!Arrays.equals(call.exchange(block(1, 10)), block(1, 10))) return "silent";
    call.call.cancel("enough", null);
    for (int tries = 0; tries < 100; tries++) {
      if (new String(call(channel, "Cancelled", id.getBytes(), options())).equals("1")) return "echoed, the server heard";
      Thread.sleep(30);
    }
    return "the server did not hear";
  }

  private String deadline() {
    List<String> codes = new ArrayList<>();
    while (codes.size() < 20) codes.add(code(fails("Sleep", 50)));
    return String.join(" ", codes);
  }

  private String compressed() {
    Captured captured = new Captured();
    byte[] answer = call(captured.on(channel), "Echo", block(1, 100_000), options().withCompression("gzip"));
    return answer.length + " echoed, " + captured.header("x-encoding");
  }

  private String reflection() throws Exception {
    BothWays call =
        new BothWays("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", MethodDescriptor.MethodType.BIDI_STREAMING, channel);
    byte[] answer = call.exchange(new byte[] {':', 0});
    call.end();
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(answer));
  }

  private String keepalive() throws Exception {
    BothWays call = new BothWays("Both", MethodDescriptor.MethodType.BIDI_STREAMING, channel);
    for (int pause : new int[] {17_000, 0}) {
      if (!Arrays.equals(call.exchange(block(1, 10)), block(1, 10))) return "dead";
      Thread.sleep(pause);
    }
    call.end();
    return "alive";
  }

  private String pinged() throws Exception {
    Map<String, String> connections = new HashMap<>();
    for (int pause : new int[] {8_000, 0}) {
      for (int number = 0; number < 30; number++) {
        Captured captured = new Captured();
        call(captured.on(channel), "Echo", block(1, 10), options());
        String connection = captured.header("x-connection");
        String earlier = connections.putIfAbsent(captured.header("x-server"), connection);
        if (earlier != null && !earlier.equals(connection)) return "another connection";
      }
      Thread.sleep(pause);
    }
    return "alive";
  }

  private Status fails(String method, long milliseconds) {
    try {
      call(channel, method, new byte[0], CallOptions.DEFAULT.withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS));
      return Status.OK;
    } catch (StatusRuntimeException error) {
      return error.getStatus();
    }
  }

  private static byte[] call(Channel channel, String method, byte[] message, CallOptions options) {
    return ClientCalls.blockingUnaryCall(channel, method(method, MethodDescriptor.MethodType.UNARY), options, message);
  }

  private static CallOptions options() {
    return CallOptions.DEFAULT.withDeadlineAfter(60, TimeUnit.SECONDS);
  }

  private static MethodDescriptor<byte[], byte[]> method(String name, MethodDescriptor.MethodType type) {
    String full = name.startsWith("/") ? name.substring(1) : "weir.Matrix/" + name;
    return MethodDescriptor.<byte[], byte[]>newBuilder(RAW, RAW).setFullMethodName(full).setType(type).build();
  }

  private static byte[] block(int number, int size) {
    byte[] made = new byte[size];
    Arrays.fill(made, (byte) number);
    return made;
  }

  private static String code(Status status) {
    return Integer.toString(status.getCode().value());
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  /** Headers and trailers of a call. */
  private static final class Captured {
    final AtomicReference<Metadata> headers = new AtomicReference<>();
    final AtomicReference<Metadata> trailers = new AtomicReference<>();

    Channel on(Channel channel) {
      return ClientInterceptors.intercept(channel, MetadataUtils.newCaptureMetadataInterceptor(headers, trailers));
    }

    String header(String name) {
      return headers.get().get(key(name));
    }
  }

  /** A streaming call, a message at a time. */
  private static final class BothWays {
    final ClientCall<byte[], byte[]> call;
    final StreamObserver<byte[]> requests;
    // A message, or the Status of the end.
    private final BlockingQueue<Object> arrived = new LinkedBlockingQueue<>();

    BothWays(String name, MethodDescriptor.MethodType type, Channel channel) {
      call = channel.newCall(method(name, type), options());
      StreamObserver<byte[]> responses =
          new StreamObserver<>() {
            @Override
            public void onNext(byte[] message) {
              arrived.add(message);
            }

            @Override
            public void onError(Throwable error) {
              arrived.add(Status.fromThrowable(error));
            }

            @Override
            public void onCompleted() {
              arrived.add(Status.OK);
            }
          };
      requests =
          type == MethodDescriptor.MethodType.BIDI_STREAMING
              ? ClientCalls.asyncBidiStreamingCall(call, responses)
              : ClientCalls.asyncClientStreamingCall(call, responses);
    }

    byte[] next() throws InterruptedException {
      Object got = arrived.take();
      if (got instanceof Status) throw ((Status) got).asRuntimeException();
      return (byte[]) got;
    }

    byte[] exchange(byte[] message) throws InterruptedException {
      requests.onNext(message);
      return next();
    }

    void end() throws InterruptedException {
      requests.onCompleted();
      Status status = (Status) arrived.take();
      if (!status.isOk()) throw status.asRuntimeException();
    }
  }
}

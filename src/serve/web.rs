//! The web client, embedded at build time and served with what a browser needs to trust it little.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Pages;

/// Shown where the binary was built without the web client.
const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Halloo</title>\
    <h1>The web client was not built</h1><p>Run <code>make web</code>, then build <code>halloo</code> again. \
    Native clients work without it.</p></html>";

/// Everything that is not the signaling server's own path.
pub(super) fn router() -> Router {
    Router::new().fallback(serve)
}

async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let path = uri.path().trim_start_matches('/');
    let mut response = match (Pages::get(path), Pages::get("index.html")) {
        (Some(file), _) if !path.is_empty() => asset(path, file),
        // The page finds its own way from an address within it.
        (_, Some(index)) if !path.rsplit('/').next().is_some_and(|name| name.contains('.')) => {
            asset("index.html", index)
        }
        (_, Some(_)) => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        (_, None) => {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, html)], NOT_BUILT).into_response()
        }
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    protect(response.headers_mut(), host);
    response
}

fn asset(path: &str, file: EmbeddedFile) -> Response {
    // Vite puts a hash of the contents into the names under assets/.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::CONTENT_TYPE, content_type(path)), (header::CACHE_CONTROL, cache)];
    (headers, Body::from(file.data.into_owned())).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        "webm" => "video/webm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn protect(headers: &mut HeaderMap, host: &str) {
    // Older Safari does not count WebSockets of the same host as 'self'.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let sockets = if host.chars().all(plain) { format!("ws://{host} wss://{host}") } else { String::new() };
    let policy = format!(
        "default-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob: mediastream:; \
         img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; \
         object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(self), microphone=(self), display-capture=(self), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_answer_is_protected_and_the_front_page_is_html() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost:8080"));
        let page = serve(Method::GET, Uri::from_static("/"), headers.clone()).await;
        assert!(page.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("wss://localhost:8080") && policy.contains("frame-ancestors 'none'"), "{policy}");
        let post = serve(Method::POST, Uri::from_static("/"), headers).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn a_host_header_cannot_write_the_policy() {
        let mut headers = HeaderMap::new();
        protect(&mut headers, "x; script-src *");
        assert!(!headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("script-src"));
    }
}
